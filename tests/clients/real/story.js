// What every client does: writes, reads its own write, turns pages, and follows a family while it changes.
//
// execute(name, variables) answers the data of one of the documents; follow(name, variables) gives data after data.

const FAMILY = `id version emails`;

export const documents = {
  Identify: `mutation Identify($input: IdentifyInput!) {
    identify(input: $input) { ... on IdentifySuccess { outcome version family { ${FAMILY} } } ... on UserError { code message } }
  }`,
  Family: `query Family($phone: PhoneNumber!, $version: BigInt) {
    contactFamily(by: { phoneNumber: $phone }, atLeast: $version) { ${FAMILY} }
  }`,
  Page: `query Page($phone: PhoneNumber!, $version: BigInt, $after: String) {
    contactFamily(by: { phoneNumber: $phone }, atLeast: $version) {
      id secondaryContacts(first: 3, after: $after) { nodes { id email } pageInfo { hasNextPage endCursor } totalCount }
    }
  }`,
  Changes: `subscription Changes($contact: ID!) { familyChanged(contactId: $contact) { ${FAMILY} } }`,
};

export async function tell({ execute, follow }, phone) {
  const input = (number) => ({ input: { email: `p${number}@clients.example`, phoneNumber: phone } });
  const outcomes = [];
  let written;
  for (let number = 0; number < 5; number += 1) {
    written = (await execute("Identify", input(number))).identify;
    outcomes.push(written.outcome);
  }
  const asked = { phone, version: written.version };
  const family = (await execute("Family", asked)).contactFamily;

  const pages = [];
  let after = null;
  do {
    const { nodes, pageInfo } = (await execute("Page", { ...asked, after })).contactFamily.secondaryContacts;
    pages.push(nodes.map((contact) => contact.email));
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);

  const sizes = [];
  for await (const { familyChanged } of follow("Changes", { contact: family.id })) {
    sizes.push(familyChanged.emails.length);
    if (sizes.length === 1) await execute("Identify", input(5));
    if (familyChanged.emails.length === 6) break;
  }
  return { outcomes, emails: family.emails, pages, sizes };
}

// A queue between a client that calls back and a reader that asks.
export function readable(start) {
  const arrived = [];
  let wake = () => {};
  const push = (entry) => { arrived.push(entry); wake(); };
  const stop = start({
    next: (value) => push({ value }),
    error: (error) => push({ error }),
    complete: () => push({ done: true }),
  });
  return (async function* read() {
    try {
      for (;;) {
        while (arrived.length === 0) await new Promise((resolve) => { wake = resolve; });
        const { value, error, done } = arrived.shift();
        if (error) throw error;
        if (done) return;
        yield value;
      }
    } finally {
      stop();
    }
  })();
}

// Runs a client's part: `node CLIENT.js URL PHONE` prints the story as one line of JSON.
export async function main(client) {
  const [url, phone] = process.argv.slice(2);
  const { end, ...verbs } = await client(url, url.replace("http", "ws"));
  console.log(JSON.stringify(await tell(verbs, phone)));
  await end?.();
}
