import { execute } from "./execute.ts";
import { graphql } from "./graphql/index.ts";

const Family = graphql(`
  query FamilyOf($email: EmailAddress!) {
    contactFamily(by: { email: $email }) { emails phoneNumbers primaryContact { createdAt } }
  }
`);
const { contactFamily } = await execute(Family, { email: "lorraine@hillvalley.edu" });
console.log(contactFamily?.emails);
