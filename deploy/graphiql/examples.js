const example = (query, variables) => ({ query: query.trim(), variables: JSON.stringify(variables, null, 2) })

export const examples = [
  example(
    `
# Who is this? Finds the family of the
# identifiers, or starts one. Send it twice:
# CREATED, then MATCHED. Change one of the two
# variables: LINKED, a contact more.
mutation Identify($input: IdentifyInput!) {
  identify(input: $input) {
    ... on IdentifySuccess {
      outcome
      version
      family {
        emails
        phoneNumbers
        primaryContact {
          databaseId
        }
      }
    }
    ... on UserError {
      code
      message
      field
    }
  }
}
`,
    { input: { email: 'lorraine@hillvalley.edu', phoneNumber: '123456' } },
  ),
  example(
    `
# All contacts that are one person, by an
# email: the primary, and the secondaries.
query Family($email: EmailAddress!) {
  contactFamily(by: { email: $email }) {
    version
    source
    emails
    phoneNumbers
    primaryContact {
      databaseId
      email
      phoneNumber
      createdAt
    }
    secondaryContacts(first: 10) {
      totalCount
      nodes {
        databaseId
        email
        phoneNumber
        linkPrecedence
      }
    }
  }
}
`,
    { email: 'lorraine@hillvalley.edu' },
  ),
  example(
    `
# Reads your own write. Give the version that
# identify answered as atLeast: this answer is
# never older. The source tells whether the graph
# had it already, or the record stood in.
query OwnWrite(
  $phone: PhoneNumber!
  $atLeast: BigInt!
) {
  contactFamily(
    by: { phoneNumber: $phone }
    atLeast: $atLeast
  ) {
    version
    source
    emails
    phoneNumbers
  }
}
`,
    { phone: '123456', atLeast: 1 },
  ),
  example(
    `
# Contacts whose email begins so, by email. Give
# the endCursor as after to read on. An empty
# filter lists all contacts, by time.
query Contacts(
  $filter: ContactFilter
  $first: Int = 10
  $after: String
) {
  contacts(
    filter: $filter
    first: $first
    after: $after
  ) {
    totalCount
    nodes {
      databaseId
      email
      phoneNumber
      linkPrecedence
      createdAt
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`,
    { filter: { emailPrefix: 'lo' }, first: 10 },
  ),
  example(
    `
# What happened, the oldest first. With a
# contactId: only what happened to the family
# of that contact.
query Events(
  $contactId: ID
  $first: Int = 10
  $after: String
) {
  identityEvents(
    contactId: $contactId
    first: $first
    after: $after
  ) {
    nodes {
      sequence
      at
      kind
      contactId
      otherFamilyId
      reason
      requestId
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`,
    { contactId: null, first: 10 },
  ),
  example(
    `
# The family of a contact at once, and again
# whenever it changes. Run it, then identify
# somebody of that family in another window.
subscription Changes($contactId: ID!) {
  familyChanged(contactId: $contactId) {
    version
    source
    emails
    phoneNumbers
  }
}
`,
    { contactId: '1' },
  ),
]
