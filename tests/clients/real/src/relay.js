// Only for relay-compiler, which names what it makes of these documents after this file. The same questions as in story.js.
import { graphql } from "relay-runtime";

graphql`
  mutation relayIdentifyMutation($input: IdentifyInput!) {
    identify(input: $input) {
      __typename
      ... on IdentifySuccess { outcome version family { id version emails } }
      ... on UserError { code message }
    }
  }
`;

graphql`
  query relayFamilyQuery($phone: PhoneNumber!, $version: BigInt) {
    contactFamily(by: { phoneNumber: $phone }, atLeast: $version) { id version emails }
  }
`;

graphql`
  query relayPageQuery($phone: PhoneNumber!, $version: BigInt, $after: String) {
    contactFamily(by: { phoneNumber: $phone }, atLeast: $version) {
      id
      secondaryContacts(first: 3, after: $after) { nodes { id email } pageInfo { hasNextPage endCursor } totalCount }
    }
  }
`;

graphql`
  subscription relayChangesSubscription($contact: ID!) { familyChanged(contactId: $contact) { id version emails } }
`;
