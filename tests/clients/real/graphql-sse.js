// graphql-sse: everything as server-sent events, a connection for each operation.
import { createClient } from "graphql-sse";

import { documents, main } from "./story.js";

await main(async (url) => {
  const client = createClient({ url });
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
