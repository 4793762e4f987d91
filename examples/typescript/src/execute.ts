import type { TypedDocumentString } from "./graphql/graphql.ts";

export const url = process.env.NEXUS_GRAPH_URL ?? "http://127.0.0.1:8000/graphql";

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
