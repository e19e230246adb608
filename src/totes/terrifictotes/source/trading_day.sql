-- One more day of trade: new orders, changed orders, a cancelled one, payments made, and changes to what orders
-- refer to. The last statement returns what was done.

CREATE FUNCTION pg_temp.pick(number bigint, purpose integer, choices integer) RETURNS integer
IMMUTABLE LANGUAGE sql RETURN ((hashint8extended(number, purpose) & 9223372036854775807) % choices)::integer;

CREATE TEMPORARY TABLE today ON COMMIT DROP AS
SELECT
    day,
    day - date '2000-01-01' AS number,
    day::timestamp + interval '8 hours' AS opening,
    sales_orders,
    purchase_orders,
    greatest(20, sales_orders / 100) AS new_orders,
    greatest(5, sales_orders / 200) AS changed_orders,
    greatest(5, sales_orders / 400) AS new_purchase_orders,
    greatest(5, sales_orders / 200) AS payments_made
FROM (
    SELECT greatest(max(created_at)::date + 1, date '2026-11-02') AS day, max(sales_order_id) AS sales_orders,
        (SELECT coalesce(max(purchase_order_id), 0) FROM purchase_order) AS purchase_orders
    FROM sales_order
) AS so_far;

-- A currency that is new to the company.
INSERT INTO currency (currency_code, created_at, last_updated)
SELECT code, opening, opening
FROM today
CROSS JOIN unnest(ARRAY[
    'CHF', 'JPY', 'SEK', 'DKK', 'NOK', 'CAD', 'AUD', 'PLN', 'CZK', 'NZD', 'SGD', 'HKD', 'KRW', 'ZAR', 'MXN', 'BRL', 'INR'
]) WITH ORDINALITY AS candidate (code, position)
WHERE code NOT IN (SELECT currency_code FROM currency)
ORDER BY position
LIMIT 1;

-- A department moves, with everybody in it.
CREATE TEMPORARY TABLE move ON COMMIT DROP AS
SELECT department_id, location AS moved_from,
    CASE WHEN location = 'Sheffield' THEN 'Birmingham' ELSE 'Sheffield' END AS moved_to
FROM today
CROSS JOIN department
WHERE location IS NOT NULL AND department_id IN (SELECT department_id FROM staff)
ORDER BY pg_temp.pick(department_id, today.number, 1000000)
LIMIT 1;

UPDATE department
SET location = moved_to, last_updated = opening + interval '15 minutes'
FROM move, today
WHERE department.department_id = move.department_id;

-- A counterparty registers a new legal address.
INSERT INTO address (address_line_1, address_line_2, district, city, postal_code, country, phone, created_at,
    last_updated)
SELECT (10 + pg_temp.pick(number, 51, 180)) || ' Exchange Street', 'Suite ' || (1 + pg_temp.pick(number, 52, 30)),
    'Greater Manchester', 'Salford', 'M3 7BT', 'United Kingdom', '0161 496 0' || (100 + pg_temp.pick(number, 53, 900)),
    opening + interval '30 minutes', opening + interval '30 minutes'
FROM today;

CREATE TEMPORARY TABLE registration ON COMMIT DROP AS
SELECT counterparty_id, legal_address_id AS moved_from, (SELECT max(address_id) FROM address) AS moved_to
FROM today
CROSS JOIN counterparty
ORDER BY pg_temp.pick(counterparty_id, today.number, 1000000)
LIMIT 1;

UPDATE counterparty
SET legal_address_id = moved_to, last_updated = opening + interval '30 minutes'
FROM registration, today
WHERE counterparty.counterparty_id = registration.counterparty_id;

-- Customers think again: mostly about orders that are neither delivered nor paid. The first is cancelled.
CREATE TEMPORARY TABLE second_thought ON COMMIT DROP AS
SELECT sales_order_id, row_number() OVER () - 1 AS position
FROM (
    SELECT sales_order_id
    FROM sales_order, today
    ORDER BY agreed_delivery_date > day::varchar AND agreed_payment_date > day::varchar DESC,
        hashint8extended(sales_order_id, today.number), sales_order_id
    LIMIT 1 + (SELECT changed_orders FROM today)
) AS chosen;

UPDATE sales_order
SET units_sold = units_sold + 10 * (1 + pg_temp.pick(position, 54, 30)),
    unit_price = CASE WHEN position % 2 = 0 THEN round(unit_price * 1.05, 2) ELSE unit_price END,
    agreed_delivery_date = (agreed_delivery_date::date + 7)::varchar,
    last_updated = opening + interval '1 hour' + position * interval '6 hours' / changed_orders
FROM second_thought, today
WHERE sales_order.sales_order_id = second_thought.sales_order_id AND position > 0;

UPDATE payment
SET payment_amount = units_sold * unit_price, last_updated = sales_order.last_updated
FROM transaction
JOIN sales_order USING (sales_order_id)
JOIN second_thought USING (sales_order_id)
WHERE payment.transaction_id = transaction.transaction_id AND NOT paid AND position > 0;

DELETE FROM payment
WHERE transaction_id IN (
    SELECT transaction_id FROM transaction JOIN second_thought USING (sales_order_id) WHERE position = 0
);
DELETE FROM transaction WHERE sales_order_id = (SELECT sales_order_id FROM second_thought WHERE position = 0);
DELETE FROM sales_order WHERE sales_order_id = (SELECT sales_order_id FROM second_thought WHERE position = 0);

-- What has been due longest is paid.
CREATE TEMPORARY TABLE settlement ON COMMIT DROP AS
SELECT payment_id FROM payment WHERE NOT paid
ORDER BY payment_date, payment_id
LIMIT (SELECT payments_made FROM today);

UPDATE payment
SET paid = true, last_updated = opening + interval '8 hours'
FROM settlement, today
WHERE payment.payment_id = settlement.payment_id;

-- New orders, every tenth in the new currency.
INSERT INTO sales_order (design_id, staff_id, counterparty_id, units_sold, unit_price, currency_id,
    agreed_delivery_date, agreed_payment_date, agreed_delivery_location_id, created_at, last_updated)
SELECT
    designs[1 + pg_temp.pick(number, 61, cardinality(designs))],
    staff[1 + pg_temp.pick(number, 62, cardinality(staff))],
    counterparties[1 + pg_temp.pick(number, 63, cardinality(counterparties))],
    10 * (1 + pg_temp.pick(number, 64, 500)),
    (200 + pg_temp.pick(number, 65, 800)) * 0.01,
    CASE WHEN number % 10 = 0 THEN newest_currency ELSE 1 + pg_temp.pick(number, 66, 3) END,
    (day + 3 + pg_temp.pick(number, 67, 40))::varchar,
    (day + 7 + pg_temp.pick(number, 68, 60))::varchar,
    addresses[1 + pg_temp.pick(number, 69, cardinality(addresses))],
    moment,
    moment
FROM (
    SELECT sales_orders + position AS number, day, opening + position * interval '9 hours' / new_orders AS moment
    FROM today CROSS JOIN LATERAL generate_series(1, new_orders) AS position
) AS arrival
CROSS JOIN (
    SELECT
        ARRAY(SELECT design_id FROM design ORDER BY design_id) AS designs,
        ARRAY(SELECT staff_id FROM staff ORDER BY staff_id) AS staff,
        ARRAY(SELECT counterparty_id FROM counterparty ORDER BY counterparty_id) AS counterparties,
        ARRAY(SELECT address_id FROM address ORDER BY address_id) AS addresses,
        (SELECT max(currency_id) FROM currency) AS newest_currency
) AS choice;

INSERT INTO purchase_order (staff_id, counterparty_id, item_code, item_quantity, item_unit_price, currency_id,
    agreed_delivery_date, agreed_payment_date, agreed_delivery_location_id, created_at, last_updated)
SELECT
    staff[1 + pg_temp.pick(number, 71, cardinality(staff))],
    counterparties[1 + pg_temp.pick(number, 72, cardinality(counterparties))],
    'JUT-' || (1000 + pg_temp.pick(number, 73, 60)),
    50 * (1 + pg_temp.pick(number, 74, 60)),
    (20 + pg_temp.pick(number, 75, 780)) * 0.01,
    1 + pg_temp.pick(number, 76, 3),
    (day + 5 + pg_temp.pick(number, 77, 30))::varchar,
    (day + 10 + pg_temp.pick(number, 78, 60))::varchar,
    1 + pg_temp.pick(number, 79, 12),
    moment,
    moment
FROM (
    SELECT purchase_orders + position AS number, day,
        opening + interval '90 seconds' + position * interval '9 hours' / new_purchase_orders AS moment
    FROM today CROSS JOIN LATERAL generate_series(1, new_purchase_orders) AS position
) AS arrival
CROSS JOIN (
    SELECT
        ARRAY(SELECT staff_id FROM staff ORDER BY staff_id) AS staff,
        ARRAY(SELECT counterparty_id FROM counterparty ORDER BY counterparty_id) AS counterparties
) AS choice;

INSERT INTO transaction (transaction_type, sales_order_id, purchase_order_id, created_at, last_updated)
SELECT type, sales_order_id, purchase_order_id, created_at, created_at
FROM (
    SELECT 'SALE' AS type, sales_order_id, NULL::integer AS purchase_order_id, created_at FROM sales_order
    UNION ALL
    SELECT 'PURCHASE', NULL, purchase_order_id, created_at FROM purchase_order
) AS ordered, today
WHERE created_at >= day
ORDER BY created_at, sales_order_id, purchase_order_id;

INSERT INTO payment (transaction_id, counterparty_id, payment_amount, currency_id, payment_type_id, paid,
    payment_date, company_ac_number, counterparty_ac_number, created_at, last_updated)
SELECT
    transaction_id,
    coalesce(sale.counterparty_id, purchase.counterparty_id),
    coalesce(units_sold * unit_price, item_quantity * item_unit_price),
    coalesce(sale.currency_id, purchase.currency_id),
    CASE transaction_type WHEN 'SALE' THEN 1 ELSE 3 END,
    false,
    coalesce(sale.agreed_payment_date, purchase.agreed_payment_date),
    10000000 + pg_temp.pick(transaction_id, 81, 90000000),
    10000000 + pg_temp.pick(transaction_id, 82, 90000000),
    transaction.created_at,
    transaction.created_at
FROM today
JOIN transaction ON transaction.created_at >= day
LEFT JOIN sales_order AS sale USING (sales_order_id)
LEFT JOIN purchase_order AS purchase USING (purchase_order_id)
ORDER BY transaction_id;

DROP FUNCTION pg_temp.pick;

SELECT
    day,
    ARRAY(SELECT sales_order_id FROM sales_order WHERE created_at >= day ORDER BY sales_order_id) AS new_order_ids,
    ARRAY(SELECT sales_order_id FROM second_thought WHERE position > 0 ORDER BY sales_order_id) AS changed_order_ids,
    sales_order_id AS deleted_order_id,
    ARRAY(
        SELECT purchase_order_id FROM purchase_order WHERE created_at >= day ORDER BY purchase_order_id
    ) AS new_purchase_order_ids,
    ARRAY(SELECT payment_id FROM settlement ORDER BY payment_id) AS paid_payment_ids,
    department_id,
    move.moved_from AS department_moved_from,
    move.moved_to AS department_moved_to,
    counterparty_id,
    registration.moved_from AS counterparty_moved_from_address_id,
    registration.moved_to AS counterparty_moved_to_address_id,
    currency_code AS new_currency_code
FROM today
CROSS JOIN move
CROSS JOIN registration
JOIN second_thought ON position = 0
JOIN currency ON currency.created_at >= day;
