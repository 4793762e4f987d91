-- Products of a demonstration: a catalogue to page through and to search (nexus_graph/store/products.py). Nothing of
-- identities depends on it.

-- Of PostgreSQL's own contributed modules; the owner of a database may create it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE products (
    id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name        text NOT NULL CHECK (name <> '' AND length(name) <= 200),
    description text NOT NULL,
    category    text NOT NULL CHECK (category <> ''),
    price_cents bigint NOT NULL CHECK (price_cents >= 0),
    currency    text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
    words       tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('english', name), 'A')
        || setweight(to_tsvector('english', category), 'B')
        || setweight(to_tsvector('english', description), 'C')
    ) STORED
);
CREATE INDEX products_words ON products USING gin (words);
CREATE INDEX products_name_similar ON products USING gin (name gin_trgm_ops);

-- Products with all the words in their texts, in any form, and then those whose name looks like the text. `lapotp` shares
-- three of its seven trigrams with `laptop`: two letters swapped or one missing still pass 0.4, other words do not.
CREATE FUNCTION search_products(wanted text, most bigint) RETURNS TABLE (
    id bigint, name text, description text, category text, price_cents bigint, currency text
)
LANGUAGE sql STABLE PARALLEL SAFE
SET pg_trgm.word_similarity_threshold = 0.4
AS $$
    SELECT products.id, products.name, products.description, products.category, products.price_cents, products.currency
    FROM products
    WHERE products.words @@ plainto_tsquery('english', wanted) OR wanted <% products.name
    ORDER BY ts_rank(products.words, plainto_tsquery('english', wanted)) DESC,
             strict_word_similarity(wanted, products.name) DESC, products.id
    LIMIT most
$$;

GRANT SELECT ON products TO nexus_api;

INSERT INTO products (name, category, price_cents, description) VALUES
    ('Trail Laptop 13', 'Computers', 109900, 'A light laptop with a bright screen and a battery for a whole day.'),
    ('Studio Laptop 16', 'Computers', 219900, 'A large laptop for pictures, film and sound.'),
    ('Desk Mini', 'Computers', 64900, 'A quiet computer of the size of a book.'),
    ('Tower Workstation', 'Computers', 329900, 'A workstation with room for four drives and two graphics cards.'),
    ('Chalk Tablet 11', 'Computers', 49900, 'A tablet with a pen for notes and drawings.'),
    ('Reader 7', 'Computers', 13900, 'An electronic reader with paper-like ink.'),
    ('Wide Monitor 34', 'Displays', 54900, 'A curved monitor, wide enough for three windows.'),
    ('Colour Monitor 27', 'Displays', 42900, 'A monitor that is calibrated for print.'),
    ('Travel Monitor 15', 'Displays', 19900, 'A thin second screen that runs from one cable.'),
    ('Wall Projector', 'Displays', 69900, 'A projector for a bright room.'),
    ('Mechanical Keyboard', 'Accessories', 12900, 'A keyboard with switches that can be replaced.'),
    ('Quiet Keyboard', 'Accessories', 5900, 'A flat keyboard for shared rooms, wireless.'),
    ('Upright Mouse', 'Accessories', 4900, 'A mouse that spares the wrist.'),
    ('Travel Mouse', 'Accessories', 2900, 'A small wireless mouse for the pocket.'),
    ('Desk Webcam', 'Accessories', 8900, 'A webcam with a shutter before the lens.'),
    ('Docking Station', 'Accessories', 17900, 'One cable for screens, network and power.'),
    ('Cable Set', 'Accessories', 1900, 'Six cables for charging and data.'),
    ('Laptop Sleeve', 'Accessories', 2900, 'A sleeve of felt for laptops up to 14 inches.'),
    ('Laptop Stand', 'Accessories', 3900, 'A folding stand of aluminium.'),
    ('Surge Protector', 'Accessories', 2400, 'Eight sockets behind one fuse.'),
    ('Studio Headphones', 'Audio', 17900, 'Closed headphones for long sessions.'),
    ('Travel Headphones', 'Audio', 24900, 'Wireless headphones that silence a train.'),
    ('Sport Earbuds', 'Audio', 7900, 'Earbuds that stay in place in the rain.'),
    ('Table Microphone', 'Audio', 11900, 'A microphone for speech, with a stand.'),
    ('Shelf Speakers', 'Audio', 29900, 'A pair of speakers for a small room.'),
    ('Kitchen Radio', 'Audio', 5900, 'A radio with large buttons.'),
    ('Record Player', 'Audio', 21900, 'A turntable with a built-in amplifier.'),
    ('Phone 6', 'Phones', 59900, 'A telephone with two cameras.'),
    ('Phone 6 Large', 'Phones', 74900, 'A telephone with a large screen and three cameras.'),
    ('Simple Phone', 'Phones', 4900, 'A telephone with keys, for calls and messages alone.'),
    ('Phone Case', 'Phones', 1900, 'A case that survives a fall onto stone.'),
    ('Charging Pad', 'Phones', 3400, 'A pad that charges telephones without a cable.'),
    ('Power Bank', 'Phones', 3900, 'Three charges of a telephone for the road.'),
    ('Field Camera', 'Cameras', 89900, 'A weatherproof camera with a zoom lens.'),
    ('Portrait Lens', 'Cameras', 45900, 'A fast lens for faces.'),
    ('Carbon Tripod', 'Cameras', 18900, 'A tripod that weighs as much as a bottle of water.'),
    ('Memory Card 256', 'Cameras', 4400, 'A fast card for film.'),
    ('Action Camera', 'Cameras', 32900, 'A camera for helmets, bicycles and water.'),
    ('Oak Desk', 'Office', 39900, 'A desk of oak with a drawer for cables.'),
    ('Standing Desk', 'Office', 57900, 'A desk that rises at the press of a button.'),
    ('Mesh Chair', 'Office', 34900, 'A chair that follows the back.'),
    ('Reading Lamp', 'Office', 6900, 'A lamp whose light grows warmer in the evening.'),
    ('Label Printer', 'Office', 9900, 'A printer for labels and parcels.'),
    ('Laser Printer', 'Office', 21900, 'A printer for text on both sides of the paper.'),
    ('Paper Shredder', 'Office', 8400, 'Cuts ten sheets at once into small pieces.'),
    ('Fountain Pen', 'Office', 4900, 'A pen with a steel nib and a converter.'),
    ('Dotted Notebook', 'Office', 1400, 'A notebook of 200 numbered pages.'),
    ('Home Router', 'Network', 14900, 'A router for a flat, with a guest network.'),
    ('Mesh Router Set', 'Network', 27900, 'Three routers for a house of several floors.'),
    ('Network Switch 8', 'Network', 5400, 'Eight ports of one gigabit.'),
    ('Network Drive', 'Network', 32900, 'A drive for two disks that the whole house shares.'),
    ('Solid State Disk 2 TB', 'Network', 15900, 'A disk without moving parts.'),
    ('Commuter Bicycle', 'Outdoors', 89900, 'A bicycle with eight gears and mudguards.'),
    ('Bicycle Helmet', 'Outdoors', 6900, 'A helmet with a light at the back.'),
    ('Trail Backpack', 'Outdoors', 11900, 'A backpack for laptops and lunch.'),
    ('Steel Bottle', 'Outdoors', 2900, 'A bottle that keeps tea hot for twelve hours.'),
    ('Pocket Torch', 'Outdoors', 3400, 'A torch that is charged by a cable.'),
    ('Two-Person Tent', 'Outdoors', 24900, 'A tent that stands in five minutes.'),
    ('Pour-Over Coffee Set', 'Kitchen', 4900, 'A dripper, a jug and forty filters.'),
    ('Burr Coffee Grinder', 'Kitchen', 12900, 'A grinder for espresso and filter coffee.');
