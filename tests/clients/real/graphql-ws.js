// graphql-ws: everything over one WebSocket.
import { createClient } from "graphql-ws";

import { documents, main } from "./story.js";

await main(async (_url, socketUrl) => {
  const client = createClient({ url: socketUrl });
  async function* follow(name, variables) {
    for await (const { data, errors } of client.iterate({ query: documents[name], variables })) {
      if (errors) throw new AggregateError(errors, errors[0].message);
      yield data;
    }
  }
  return {
    async execute(name, variables) {
      for await (const data of follow(name, variables)) return data;
    },
    follow,
    end: () => client.dispose(),
  };
});
