"""A small shop, for tests that need a source with a star: customers in their latest state, orders in every version."""

SCHEMA = (
    """CREATE TABLE customer (
        customer_id integer PRIMARY KEY, name text NOT NULL, city text, last_updated timestamp NOT NULL)""",
    """CREATE TABLE "order" (
        order_id integer PRIMARY KEY, customer_id integer NOT NULL, quantity integer NOT NULL, price numeric NOT NULL,
        last_updated timestamp NOT NULL)""",
    """INSERT INTO customer VALUES
        (10, 'Ada', 'Hull', '2024-11-25 08:00'), (11, 'Bo', 'York', '2024-11-25 08:00')""",
    """INSERT INTO "order" VALUES
        (1, 10, 2, 12.50, '2024-11-25 09:00'), (2, 11, 1, 99.90, '2024-11-25 09:00'),
        (3, 10, 7, 0.05, '2024-11-25 09:00')""",
)

MODELS = {
    "dim_customer": """
-- Customers.
CREATE TABLE dim_customer (
    customer_id  INTEGER PRIMARY KEY,
    name         VARCHAR NOT NULL,
    city         VARCHAR
) AS
SELECT customer_id, name, city FROM customer
""",
    "fact_order": """
-- Orders, in every version they have had.
CREATE TABLE fact_order (
    order_record_id  BIGINT PRIMARY KEY,
    order_id         INTEGER NOT NULL,
    customer_id      INTEGER NOT NULL REFERENCES dim_customer,
    quantity         INTEGER NOT NULL,
    price            NUMERIC(10,2) NOT NULL
) AS
SELECT order_id, customer_id, quantity, price FROM "order"
""",
}
