// A rule of the schema inspector: a breaking change passes where a decision record says `Breaks: <path>`. Any other says
// which path that would be.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.env.ADR_FOLDER;
const records = readdirSync(folder).filter((name) => name.endsWith(".md"));
const texts = records.map((name) => readFileSync(join(folder, name), "utf8"));
const allowed = new Set(texts.flatMap((text) => [...text.matchAll(/^Breaks: (\S+)\s*$/gm)].map(([, path]) => path)));

const judged = (change) => {
  if (change.criticality.level !== "BREAKING") return change;
  if (allowed.has(change.path)) return { ...change, criticality: { level: "DANGEROUS" } };
  return { ...change, message: `${change.message} (Breaks: ${change.path})` };
};

export default ({ changes }) => changes.map(judged);
