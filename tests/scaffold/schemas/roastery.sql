-- A plain one: numbers as keys, foreign keys, NOT NULL where it belongs, comments.
CREATE TABLE country (country_id serial PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE farm (
    farm_id serial PRIMARY KEY, name varchar(60) NOT NULL, country_id int NOT NULL REFERENCES country, altitude int
);
CREATE TABLE bean (
    bean_id serial PRIMARY KEY, name varchar(60) NOT NULL, farm_id int NOT NULL REFERENCES farm,
    price_per_kilo numeric(8, 2) NOT NULL, decaffeinated boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE bean IS 'Beans that are or were on sale.';
COMMENT ON COLUMN bean.price_per_kilo IS 'Net, in euros';
CREATE TABLE customer (
    customer_id serial PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL, email text,
    password_hash text, recommended_by int REFERENCES customer, created_at timestamp NOT NULL, last_updated timestamp NOT NULL
);
CREATE TABLE roast_order (
    roast_order_id bigserial PRIMARY KEY, customer_id int NOT NULL REFERENCES customer, ordered_on date NOT NULL,
    shipped_at timestamptz, shipping numeric(6, 2) NOT NULL DEFAULT 0, last_updated timestamp NOT NULL
);
CREATE TABLE roast_order_line (
    roast_order_id bigint NOT NULL REFERENCES roast_order, line_no smallint NOT NULL, bean_id int NOT NULL REFERENCES bean,
    kilos numeric(6, 3) NOT NULL, price numeric(8, 2) NOT NULL, PRIMARY KEY (roast_order_id, line_no)
);
CREATE TABLE flavour (flavour_id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE bean_flavour (
    bean_id int NOT NULL REFERENCES bean, flavour_id int NOT NULL REFERENCES flavour, PRIMARY KEY (bean_id, flavour_id)
);
INSERT INTO country (name) VALUES ('Ethiopia'), ('Colombia');
INSERT INTO farm (name, country_id, altitude) VALUES ('Konga', 1, 1900), ('El Vergel', 2, NULL);
INSERT INTO bean (name, farm_id, price_per_kilo) VALUES ('Konga natural', 1, 24.5), ('Vergel washed', 2, 19);
INSERT INTO customer (first_name, last_name, password_hash, recommended_by, created_at, last_updated)
    VALUES ('Ada', 'Bell', 'x', NULL, '2026-01-01', '2026-01-02'), ('Ben', 'Cole', 'y', 1, '2026-01-03', '2026-01-03 10:00');
INSERT INTO roast_order (customer_id, ordered_on, shipped_at, last_updated)
    SELECT 1 + n % 2, date '2026-02-01' + n, CASE WHEN n % 3 > 0 THEN timestamptz '2026-02-02 23:30-05' END, '2026-02-03'
    FROM generate_series(1, 50) AS n;
INSERT INTO roast_order_line SELECT n, m, 1 + (n + m) % 2, 0.25 * m, 6 FROM generate_series(1, 50) AS n, generate_series(1, 3) AS m;
INSERT INTO flavour (name) VALUES ('peach'), ('cocoa');
INSERT INTO bean_flavour VALUES (1, 1), (2, 2), (2, 1);
