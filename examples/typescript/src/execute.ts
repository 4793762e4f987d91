import { createClient } from "graphql-ws";
import type { TypedDocumentString } from "./graphql/graphql.ts";

const url = process.env.NEXUS_GRAPH_URL ?? "http://127.0.0.1:8000/graphql";
const socket = createClient({ url: url.replace(/^http/, "ws") });

/** Sends a typed document. Throws what the API says when the document cannot be executed. */
export async function execute<Data, Variables>(
  document: TypedDocumentString<Data, Variables>,
  variables: Variables,
): Promise<Data> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/graphql-response+json" },
    body: JSON.stringify({ query: document, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(JSON.stringify(errors));
  return data;
}

/** Follows a typed subscription, over one socket for all, opened when the first one begins. */
export async function* follow<Data, Variables extends Record<string, unknown>>(
  document: TypedDocumentString<Data, Variables>,
  variables: Variables,
): AsyncGenerator<Data> {
  for await (const { data, errors } of socket.iterate<Data>({ query: document.toString(), variables })) {
    if (errors) throw new Error(JSON.stringify(errors));
    if (data) yield data;
  }
}
