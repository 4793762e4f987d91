// POST /identify as the original design describes it: Express and pg, several statements in one transaction.
//
// Fair to it: one process, as the API is one; statements prepared once; a pool of connections. Under ISOLATION SERIALIZABLE
// a transaction that the database refuses for what ran at the same time is run again; under READ COMMITTED, which the original
// design leaves it at, two requests about one person at a time can split a family.
import { readFileSync } from 'node:fs';

import express from 'express';
import pg from 'pg';

const HOST = '127.0.0.1';
const RETRIES_MAX = 100;
const BEGIN = `BEGIN ISOLATION LEVEL ${process.env.ISOLATION}`;
const RETRIED = new Set(['40001', '40P01']); // serialization failure, deadlock

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: Number(process.env.POOL_CONNECTIONS) });

const statements = Object.fromEntries(
  ['matches', 'family', 'unite', 'insert'].map((name) => [
    name,
    readFileSync(new URL(`statements/${name}.sql`, import.meta.url), 'utf8'),
  ]),
);

async function rows(client, name, ...values) {
  return (await client.query({ name, text: statements[name], values })).rows;
}

/** The contacts of the family that these identifiers belong to afterwards, the primary first. */
async function reconcile(client, email, phone) {
  const matches = await rows(client, 'matches', email, phone);
  if (matches.length === 0) return rows(client, 'insert', email, phone, null);

  const heads = [...new Set(matches.map((match) => match.linked_id ?? match.id))];
  const family = await rows(client, 'family', heads);
  const primary = family.find((contact) => contact.link_precedence === 'primary');
  if (heads.length > 1) {
    const others = heads.filter((id) => id !== primary.id);
    await rows(client, 'unite', primary.id, others);
  }
  const isNew =
    (email !== null && !family.some((contact) => contact.email === email)) ||
    (phone !== null && !family.some((contact) => contact.phone_number === phone));
  if (isNew) family.push(...(await rows(client, 'insert', email, phone, primary.id)));
  return [primary, ...family.filter((contact) => contact !== primary)];
}

async function identify(email, phone) {
  const client = await pool.connect();
  try {
    for (let tries = 1; ; tries += 1) {
      try {
        await client.query(BEGIN);
        const family = await reconcile(client, email, phone);
        await client.query('COMMIT');
        return family;
      } catch (error) {
        await client.query('ROLLBACK');
        if (!RETRIED.has(error.code) || tries === RETRIES_MAX) throw error;
      }
    }
  } finally {
    client.release();
  }
}

function answer(family) {
  const [primary, ...secondaries] = family;
  return {
    contact: {
      primaryContatctId: primary.id,
      emails: [...new Set(family.map((contact) => contact.email).filter((email) => email !== null))],
      phoneNumbers: [...new Set(family.map((contact) => contact.phone_number).filter((phone) => phone !== null))],
      secondaryContactIds: secondaries.map((contact) => contact.id),
    },
  };
}

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.use(express.json());

app.post('/identify', async (request, response) => {
  const email = request.body.email?.trim().toLowerCase() || null;
  const phone = request.body.phoneNumber?.toString() || null;
  if (email === null && phone === null) {
    response.status(400).json({ error: 'an email or a phoneNumber is needed' });
    return;
  }
  response.json(answer(await identify(email, phone)));
});

app.get('/health', (_request, response) => {
  response.json({});
});

app.use((error, _request, response, _next) => {
  response.status(500).json({ error: error.code ?? error.message });
});

const server = app.listen(Number(process.env.PORT), HOST);
process.on('SIGTERM', () => {
  server.close(() => pool.end());
  server.closeAllConnections();
});
