// Who is this, and whom else do we know them as? Prints the family as it is after this very write.
import { execute } from "./execute.ts";
import { graphql } from "./graphql/index.ts";

const Identify = graphql(`
  mutation Identify($input: IdentifyInput!) {
    identify(input: $input) {
      __typename
      ... on IdentifySuccess {
        outcome
        version
        family { id }
      }
      ... on UserError { code message field }
    }
  }
`);

const Family = graphql(`
  query Family($contactId: ID!, $atLeast: BigInt!) {
    contactFamily(by: { contactId: $contactId }, atLeast: $atLeast) {
      emails
      phoneNumbers
      primaryContact { email }
      secondaryContacts(first: 10) { totalCount }
    }
  }
`);

const [email, phoneNumber] = process.argv.slice(2);
const { identify } = await execute(Identify, { input: { email, phoneNumber } });
if (identify.__typename !== "IdentifySuccess") {
  console.error(`${identify.code}: ${identify.message}`);
  process.exit(1);
}

const { contactFamily } = await execute(Family, { contactId: identify.family.id, atLeast: identify.version });
console.log(`${identify.outcome}: ${contactFamily?.emails.join(", ")} by ${contactFamily?.phoneNumbers.join(", ")}`);
console.log(`${contactFamily?.primaryContact.email} and ${contactFamily?.secondaryContacts.totalCount} more`);
