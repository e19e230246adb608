-- Two years of trade, from 2024-11-02 to 2026-11-01: {orders} sales orders, a purchase order to every fourth of them,
-- and one transaction and one payment each. The same {seed} gives the same rows everywhere.

-- One of the whole numbers from 0 below `choices`, settled by a row's number and what it is picked for.
CREATE FUNCTION pg_temp.pick(number bigint, purpose integer, choices integer) RETURNS integer
IMMUTABLE LANGUAGE sql RETURN ((hashint8extended(number, {seed} * 1000 + purpose) & 9223372036854775807) % choices)::integer;

-- When the order with this number came in: they are spread evenly over 730 working days of ten hours.
CREATE FUNCTION pg_temp.moment(number bigint) RETURNS timestamp IMMUTABLE LANGUAGE sql
RETURN timestamp '2024-11-02 08:00'
    + (number - 1) * 730 / {orders} * interval '1 day'
    + ((number - 1) * 730 % {orders}) * 36000000 / {orders} * interval '1 millisecond';

INSERT INTO sales_order
SELECT
    number,
    1 + pg_temp.pick(number, 1, {designs}),
    1 + pg_temp.pick(number, 2, 20),
    1 + pg_temp.pick(number, 3, 20),
    10 * (1 + pg_temp.pick(number, 4, 500)),
    (200 + pg_temp.pick(number, 5, 800)) * 0.01,
    (ARRAY[1, 1, 1, 2, 3])[1 + pg_temp.pick(number, 6, 5)],
    (moment::date + 3 + pg_temp.pick(number, 7, 40))::varchar,
    (moment::date + 7 + pg_temp.pick(number, 8, 60))::varchar,
    1 + pg_temp.pick(number, 9, 30),
    moment,
    CASE
        WHEN pg_temp.pick(number, 10, 10) < 7 THEN moment
        ELSE least(moment + pg_temp.pick(number, 11, 432000) * interval '1 second', timestamp '2026-11-01 19:00')
    END
FROM (
    SELECT number, pg_temp.moment(number) AS moment
    FROM generate_series(1, {orders}) AS number
    OFFSET 0 -- so that the moment is worked out once a row
) AS numbered;

INSERT INTO purchase_order
SELECT
    number,
    1 + pg_temp.pick(number, 21, 20),
    1 + pg_temp.pick(number, 22, 20),
    (ARRAY['CTN', 'LIN', 'JUT', 'INK', 'THR', 'LBL'])[1 + pg_temp.pick(number, 23, 6)]
        || '-' || (1000 + pg_temp.pick(number, 24, 60)),
    50 * (1 + pg_temp.pick(number, 25, 60)),
    (20 + pg_temp.pick(number, 26, 780)) * 0.01,
    (ARRAY[1, 1, 3])[1 + pg_temp.pick(number, 27, 3)],
    (moment::date + 5 + pg_temp.pick(number, 28, 30))::varchar,
    (moment::date + 10 + pg_temp.pick(number, 29, 60))::varchar,
    1 + pg_temp.pick(number, 30, 12),
    moment,
    moment
FROM (
    SELECT number, pg_temp.moment(4 * number) + interval '90 seconds' AS moment
    FROM generate_series(1, {orders} / 4) AS number
    OFFSET 0
) AS numbered;

-- Purchase orders have every fifth number.
INSERT INTO transaction
SELECT sales_order_id + (sales_order_id - 1) / 4, 'SALE', sales_order_id, NULL, created_at, created_at
FROM sales_order
UNION ALL
SELECT 5 * purchase_order_id, 'PURCHASE', NULL, purchase_order_id, created_at, created_at
FROM purchase_order;

-- Whatever fell due before the last day has been paid, on that day at noon.
INSERT INTO payment
SELECT
    number,
    number,
    counterparty_id,
    amount,
    currency_id,
    payment_type_id,
    paid,
    due,
    10000000 + pg_temp.pick(counterparty_id, 41, 90000000),
    10000000 + pg_temp.pick(counterparty_id, 42, 90000000),
    created_at,
    CASE WHEN paid THEN due::timestamp + interval '12 hours' ELSE created_at END
FROM (
    SELECT
        sales_order_id + (sales_order_id - 1) / 4 AS number, counterparty_id, units_sold * unit_price AS amount,
        currency_id, 1 AS payment_type_id, agreed_payment_date < '2026-11-01' AS paid, agreed_payment_date AS due, created_at
    FROM sales_order
    UNION ALL
    SELECT
        5 * purchase_order_id, counterparty_id, item_quantity * item_unit_price, currency_id,
        3, agreed_payment_date < '2026-11-01', agreed_payment_date, created_at
    FROM purchase_order
) AS due_payment;

DROP FUNCTION pg_temp.moment, pg_temp.pick;
