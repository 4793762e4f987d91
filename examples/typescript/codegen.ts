import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../schema/schema.graphql",
  documents: ["src/*.ts"],
  generates: {
    "src/graphql/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        documentMode: "string",
        enumType: "string-literal",
        useTypeImports: true,
        importExtension: ".ts",
        strictScalars: true,
        scalars: {
          BigInt: "number",
          DateTime: "string",
          EmailAddress: "string",
          PhoneNumber: { input: "string | number", output: "string" },
        },
      },
    },
  },
};

export default config;
