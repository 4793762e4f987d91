// Composes the schema in a file with that of another subgraph and prints the supergraph, or what is wrong with it.
import { readFileSync } from "node:fs";
import { composeServices } from "@apollo/composition";
import { parse } from "graphql";

const orders = `
  extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", import: ["@key"])
  type Query { order(number: Int!): Order }
  type Order { number: Int! buyer: Contact }
  type Contact @key(fields: "id", resolvable: false) { id: ID! }
`;
const services = [
  { name: "identity", typeDefs: parse(readFileSync(process.argv[2], "utf8")) },
  { name: "orders", typeDefs: parse(orders) },
];
const { errors, supergraphSdl } = composeServices(services);
for (const error of errors ?? []) console.error(error.message);
console.log(supergraphSdl ?? "");
process.exitCode = errors?.length ? 1 : 0;
