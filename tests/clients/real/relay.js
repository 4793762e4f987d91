// relay-runtime with compiled artifacts: its store normalises by id, so a wrong or changing id would show.
import { createClient } from "graphql-ws";
import RelayRuntime from "relay-runtime";

import Changes from "./__generated__/relayChangesSubscription.graphql.js";
import Family from "./__generated__/relayFamilyQuery.graphql.js";
import Identify from "./__generated__/relayIdentifyMutation.graphql.js";
import Page from "./__generated__/relayPageQuery.graphql.js";
import { main, readable } from "./story.js";

const { Environment, Network, Observable, RecordSource, Store, commitMutation, fetchQuery, requestSubscription } = RelayRuntime;
const artifacts = { Changes, Family, Identify, Page };

await main(async (url, socketUrl) => {
  const sockets = createClient({ url: socketUrl });
  async function send({ text: query, name: operationName }, variables) {
    const headers = { "Content-Type": "application/json", Accept: "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8" };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify({ query, operationName, variables }) });
    return answer.json();
  }
  const listen = ({ text: query, name: operationName }, variables) =>
    Observable.create((sink) => sockets.subscribe({ query, operationName, variables }, sink));
  const environment = new Environment({ network: Network.create(send, listen), store: new Store(new RecordSource()) });
  return {
    execute: (name, variables) =>
      name === "Identify"
        ? new Promise((resolve, reject) => {
            commitMutation(environment, {
              mutation: artifacts[name],
              variables,
              onCompleted: (data, errors) => (errors?.length ? reject(new AggregateError(errors)) : resolve(data)),
              onError: reject,
            });
          })
        : fetchQuery(environment, artifacts[name], variables, { fetchPolicy: "network-only" }).toPromise(),
    follow: (name, variables) =>
      readable(({ next, error, complete }) => {
        const subscription = requestSubscription(environment, {
          subscription: artifacts[name],
          variables,
          onNext: next,
          onError: error,
          onCompleted: complete,
        });
        return () => subscription.dispose();
      }),
    end: () => sockets.dispose(),
  };
});
