-- Names and types that are hard: capitals, blanks, quotes, keywords, lengths, other alphabets, and every kind of value.
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TYPE cargo AS ENUM ('bulk', 'container', 'it''s "odd"', 'was: nothing');
CREATE TYPE place AS (latitude float8, longitude float8);
CREATE DOMAIN tonnage AS numeric(12, 3) CHECK (VALUE >= 0);
CREATE DOMAIN call_sign AS varchar(10) NOT NULL;
CREATE TABLE "Ship" (
    "ShipID" serial PRIMARY KEY, "Ship Name" varchar(50) NOT NULL, "IMO-Number" int, "Gross""Weight" tonnage, "CallSign" call_sign,
    "Größe" int, "2ndFlag" char(2), "HTTPStatus" int, select_ int, "select" int, "from" text, "order" int, "Date" date, "user" text,
    "timestamp" timestamp, "end" text, "primary" boolean, "references" int, "comment" text, "index" int, "check" int, "interval" interval,
    "ValidFrom" date, is_deleted boolean NOT NULL DEFAULT false, "Home Port ID" varchar(5)
);
CREATE TABLE "Home Port" ("Home Port ID" varchar(5) PRIMARY KEY, "Port Name" text NOT NULL, "Country" text, "Where" place);
ALTER TABLE "Ship" ADD FOREIGN KEY ("Home Port ID") REFERENCES "Home Port";
CREATE TABLE "Order" (
    "OrderID" int PRIMARY KEY, "ShipID" int NOT NULL REFERENCES "Ship", "OrderDate" timestamp NOT NULL, valid_from timestamp,
    valid_to timestamp, is_deleted boolean, batch_id int, "Total $" money
);
CREATE TABLE "Order Details" (
    "OrderID" int REFERENCES "Order", "Line #" int, "Qty." numeric(9, 0), "Unit Price" numeric(10, 4), PRIMARY KEY ("OrderID", "Line #")
);
CREATE TABLE a_table_whose_name_is_as_long_as_names_in_postgresql_ever_get_ (
    a_key_whose_name_is_as_long_as_names_in_postgresql_can_ever_get int PRIMARY KEY,
    a_column_with_a_name_that_is_as_long_as_names_in_postgresql_can text
);
CREATE TABLE a_table_whose_name_is_as_long_as_names_in_postgresql_ever_get2 (id int PRIMARY KEY, name text);
CREATE TABLE twins (id int PRIMARY KEY, a int, "A" int);
CREATE TABLE cargoes (id int PRIMARY KEY, name text);
CREATE TABLE "Cargoes" (id int PRIMARY KEY, name text);
CREATE TABLE tildes (id int PRIMARY KEY, "~x" int);
CREATE TABLE reserved (id int PRIMARY KEY, _op text, _at int);
CREATE TABLE "?" (id int PRIMARY KEY, "?" int, "!" int);
CREATE TABLE calendar (id int PRIMARY KEY, name text);
CREATE TABLE date (id int PRIMARY KEY, name text);
CREATE TABLE shelf (id int PRIMARY KEY, name text);
CREATE TABLE shelves (id int PRIMARY KEY, name text);
CREATE TABLE shelf_current (id int PRIMARY KEY, name text);
CREATE TABLE dim_thing (id int PRIMARY KEY, name text);
CREATE TABLE member (code citext PRIMARY KEY, name text NOT NULL);
CREATE TABLE member_visit (id int PRIMARY KEY, member_code citext REFERENCES member, visited_on date NOT NULL);
CREATE TABLE every_type (
    id numeric PRIMARY KEY, small smallint, whole int, big bigint, exact numeric(38, 10), wide numeric(60, 20), rounded numeric(5, -2),
    tiny numeric(3, 5), free numeric, single real, twice float8, price money, letters char(7), one "char", label name, words text,
    vary varchar(20), blind citext, bytes bytea, day date, clock time, zoned timetz, moment timestamp(3), instant timestamptz,
    span interval day to second, truth boolean, bits bit(4), more_bits bit varying, address inet, net cidr, mac macaddr, point point,
    shape polygon, identity uuid, plain json, binary_json jsonb, list int[], grid text[][], kinds cargo[], kind cargo,
    times tsrange, days datemultirange, spot place, number oid, words_found tsvector, wanted tsquery, position_ pg_lsn,
    weight tonnage, doubled int GENERATED ALWAYS AS (whole * 2) STORED, prices money[], json_list jsonb[]
);
COMMENT ON TABLE every_type IS E'Every type.\nOn two lines; -- and a comment */ /* within\t"quoted".';
COMMENT ON COLUMN every_type.kind IS E'was: something else\nand more';
COMMENT ON COLUMN every_type.whole IS '-- */ '' " ; \ {}';
INSERT INTO "Home Port" VALUES ('NLRTM', 'Rotterdam', 'Netherlands', '(51.9,4.5)'), ('DEHAM', 'Hamburg', NULL, '(,)');
INSERT INTO "Ship" ("Ship Name", "Gross""Weight", "CallSign", "2ndFlag", "Date", "interval", "Home Port ID", is_deleted)
    VALUES ('Ever "Given"', 224000.125, 'H3RC', 'PA', '2018-09-25', '1 mon -3 days 04:05:06.000007', 'NLRTM', false),
           ('Größe', NULL, 'X', 'D', '0044-03-15 BC', '00:00', NULL, true);
INSERT INTO "Order" SELECT n, 1 + n % 2, timestamp '2026-01-01 10:00' + n * interval '1 day', NULL, '2026-02-01', n % 2 = 0, 7, n * 1234.56::money
    FROM generate_series(1, 10) AS n;
INSERT INTO "Order Details" SELECT n, m, 3, 1.2345 FROM generate_series(1, 10) AS n, generate_series(1, 2) AS m;
INSERT INTO a_table_whose_name_is_as_long_as_names_in_postgresql_ever_get_ VALUES (1, 'x');
INSERT INTO cargoes VALUES (1, 'a'); INSERT INTO "Cargoes" VALUES (1, 'b');
INSERT INTO date VALUES (1, 'x'); INSERT INTO shelf VALUES (1, 'x'); INSERT INTO shelves VALUES (1, 'y');
INSERT INTO shelf_current VALUES (1, 'z'); INSERT INTO dim_thing VALUES (1, 'x');
INSERT INTO member VALUES ('Ab', 'x'), ('c', 'y'); INSERT INTO member_visit VALUES (1, 'aB', '2026-01-01'), (2, 'C', '2026-01-02');
INSERT INTO every_type VALUES (
    1.5, -1, 2, 9223372036854775807, 1234567890123456789012345678.0123456789, 1e35::numeric + 0.1, 12300, 0.00123, 0.1, 1.5, 'NaN',
    -1234.5, 'ab', 'x', 'name', E'two\nlines', 'vary', 'CiText', '\x00ff', 'infinity', '24:00', '12:00+05:30', '2026-01-01 00:00:00.123',
    '-infinity', '3 days 04:05', true, B'1010', B'1', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '(1,2)', '((0,0),(1,1))',
    '00000000-0000-0000-0000-000000000001', '{"a": 1.10}', '{"b": null}', '{1,NULL}', '{{a,b}}', '{bulk}', 'it''s "odd"',
    '[2026-01-01,2026-01-02)', '{[2026-01-01,2026-01-03)}', '(1,)', 7, 'a b', 'a & b', '0/1', 2.5, DEFAULT, '{1.5}', '{"1"}'
);
INSERT INTO every_type (id) VALUES (2);
