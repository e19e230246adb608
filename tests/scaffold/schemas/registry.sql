-- Shapes that are hard: keys of several columns or none, circles, partitions, inheritance, views, rules that are not enforced.
CREATE TABLE region (country char(2), code varchar(3), name text NOT NULL, PRIMARY KEY (country, code));
CREATE TABLE currency (id int PRIMARY KEY, code char(3) NOT NULL UNIQUE, name text NOT NULL);
CREATE TABLE company (
    id int PRIMARY KEY, name text NOT NULL, country char(2) NOT NULL, region_code varchar(3), parent_id int REFERENCES company,
    head_person_id int, currency_code char(3) NOT NULL REFERENCES currency (code), founded date, capital numeric(15, 2),
    billing_address_id int, shipping_address_id int, FOREIGN KEY (country, region_code) REFERENCES region
);
CREATE TABLE town (id int PRIMARY KEY, town text NOT NULL);
CREATE TABLE address (id int PRIMARY KEY, street text NOT NULL, town_id int NOT NULL REFERENCES town);
ALTER TABLE company ADD FOREIGN KEY (billing_address_id) REFERENCES address, ADD FOREIGN KEY (shipping_address_id) REFERENCES address;
CREATE TABLE person (id int PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL, company_id int NOT NULL REFERENCES company);
ALTER TABLE company ADD FOREIGN KEY (head_person_id) REFERENCES person;
CREATE TABLE person_detail (person_id int PRIMARY KEY REFERENCES person, about text, salary numeric(9, 2));
CREATE TABLE filing (
    company_id int NOT NULL REFERENCES company, filed_on date NOT NULL, number int NOT NULL, fee numeric(8, 2), filed_by int REFERENCES person,
    PRIMARY KEY (company_id, filed_on, number)
) PARTITION BY RANGE (filed_on);
CREATE TABLE filing_2025 PARTITION OF filing FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE filing_2026 PARTITION OF filing FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE filing_page (
    company_id int, filed_on date, number int, page int, words int NOT NULL, PRIMARY KEY (company_id, filed_on, number, page),
    FOREIGN KEY (company_id, filed_on, number) REFERENCES filing
);
CREATE TABLE reading (id serial, taken_on date NOT NULL, value numeric(6, 2) NOT NULL) PARTITION BY LIST (taken_on);
CREATE TABLE reading_1 PARTITION OF reading (PRIMARY KEY (id)) FOR VALUES IN ('2026-01-01');
CREATE TABLE reading_2 PARTITION OF reading (PRIMARY KEY (id)) FOR VALUES IN ('2026-01-02');
CREATE TABLE notice (id int PRIMARY KEY, said text, at timestamptz NOT NULL);
CREATE TABLE notice_2026 (PRIMARY KEY (id)) INHERITS (notice);
CREATE TABLE loan (id int PRIMARY KEY, company_id int NOT NULL, amount numeric(12, 2) NOT NULL, due_on date NOT NULL);
ALTER TABLE loan ADD FOREIGN KEY (company_id) REFERENCES company NOT VALID;
CREATE TABLE share (owner_id int NOT NULL REFERENCES company, company_id int NOT NULL REFERENCES company, since date, percent numeric(5, 2));
CREATE UNIQUE INDEX ON share (owner_id, company_id);
CREATE TABLE keyless (line int, said text);
CREATE TABLE setting (key text PRIMARY KEY, value text);
CREATE TABLE audit_log (id bigint PRIMARY KEY, at timestamptz NOT NULL, said jsonb);
CREATE TABLE secret_note (id int PRIMARY KEY, said text);
ALTER TABLE secret_note ENABLE ROW LEVEL SECURITY;
CREATE TABLE empty (id int PRIMARY KEY);
CREATE TABLE no_columns ();
CREATE VIEW person_list AS SELECT id, first_name FROM person;
CREATE MATERIALIZED VIEW company_count AS SELECT country, count(*) FROM company GROUP BY 1;
INSERT INTO region VALUES ('DE', 'BY', 'Bavaria'), ('FR', 'IDF', 'Paris');
INSERT INTO currency VALUES (1, 'EUR', 'Euro');
INSERT INTO town VALUES (1, 'Munich'), (2, 'Paris');
INSERT INTO address VALUES (1, 'A', 1), (2, 'B', 2);
INSERT INTO company (id, name, country, region_code, parent_id, currency_code, founded, billing_address_id, shipping_address_id)
    VALUES (1, 'One', 'DE', 'BY', 2, 'EUR', '1900-01-01', 1, 2), (2, 'Two', 'FR', NULL, 1, 'EUR', NULL, 1, NULL);
INSERT INTO person VALUES (1, 'Ada', 'Bell', 1), (2, 'Ben', 'Cole', 2);
UPDATE company SET head_person_id = id;
INSERT INTO person_detail VALUES (1, 'x', 10);
INSERT INTO filing SELECT 1 + n % 2, date '2025-06-01' + n * 20, n, 25, 1 FROM generate_series(1, 20) AS n;
INSERT INTO filing_page SELECT company_id, filed_on, number, 1, 300 FROM filing;
INSERT INTO reading VALUES (1, '2026-01-01', 1.5), (1, '2026-01-02', 2.5);
INSERT INTO notice VALUES (1, 'x', '2026-01-01'); INSERT INTO notice_2026 VALUES (2, 'y', '2026-01-02');
ALTER TABLE loan DISABLE TRIGGER ALL;
INSERT INTO loan VALUES (1, 1, 100, '2026-05-01'), (2, 99, 100, '2026-05-02');
ALTER TABLE loan ENABLE TRIGGER ALL;
INSERT INTO share VALUES (1, 2, '2020-01-01', 50), (2, 1, NULL, 12.5);
INSERT INTO keyless VALUES (1, 'x'), (1, 'x');
INSERT INTO setting VALUES ('a', 'b'); INSERT INTO audit_log VALUES (1, '2026-01-01', '{}'); INSERT INTO empty VALUES (1);
