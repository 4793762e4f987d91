// Apollo Client 4: queries and mutations by HttpLink, subscriptions by GraphQLWsLink, the normalised cache as it comes.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { OperationTypeNode } from "graphql";
import { createClient } from "graphql-ws";

import { documents, main, readable } from "./story.js";

await main(async (url, socketUrl) => {
  const sockets = createClient({ url: socketUrl });
  const client = new ApolloClient({
    link: ApolloLink.split(
      ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
      new GraphQLWsLink(sockets),
      new HttpLink({ uri: url }),
    ),
    cache: new InMemoryCache(),
    clientAwareness: { name: "story", version: "1.0" },
  });
  const parsed = Object.fromEntries(Object.entries(documents).map(([name, text]) => [name, gql(text)]));
  return {
    async execute(name, variables) {
      const { data } =
        name === "Identify"
          ? await client.mutate({ mutation: parsed[name], variables })
          : await client.query({ query: parsed[name], variables });
      return data;
    },
    follow: (name, variables) =>
      readable(({ next, error, complete }) => {
        const subscription = client
          .subscribe({ query: parsed[name], variables })
          .subscribe({ next: (answer) => (answer.error ? error(answer.error) : next(answer.data)), error, complete });
        return () => subscription.unsubscribe();
      }),
    async end() {
      client.stop();
      await sockets.dispose();
    },
  };
});
