// Prints the family of a contact at once, and again whenever it changes, until Ctrl-C.
import { follow } from "./execute.ts";
import { graphql } from "./graphql/index.ts";

const FamilyChanged = graphql(`
  subscription FamilyChanged($contactId: ID!) {
    familyChanged(contactId: $contactId) { version emails phoneNumbers }
  }
`);

const [contactId = "1"] = process.argv.slice(2);
for await (const { familyChanged } of follow(FamilyChanged, { contactId })) {
  console.log(familyChanged ? `${familyChanged.emails.join(", ")} by ${familyChanged.phoneNumbers.join(", ")}` : "gone");
}
