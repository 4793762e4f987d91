// urql with its defaults: queries by GET, mutations by POST, subscriptions as server-sent events by fetch.
import { Client, cacheExchange, fetchExchange } from "@urql/core";

import { documents, main, readable } from "./story.js";

await main(async (url) => {
  const client = new Client({ url, exchanges: [cacheExchange, fetchExchange], fetchSubscriptions: true });
  const data = (result) => {
    if (result.error) throw result.error;
    return result.data;
  };
  return {
    async execute(name, variables) {
      const sent = name === "Identify" ? client.mutation(documents[name], variables) : client.query(documents[name], variables);
      return data(await sent.toPromise());
    },
    follow: (name, variables) =>
      readable(({ next, error }) => {
        const subscription = client
          .subscription(documents[name], variables)
          .subscribe((result) => (result.error ? error(result.error) : next(result.data)));
        return () => subscription.unsubscribe();
      }),
  };
});
