-- Purchase orders, in every version they have had.
CREATE TABLE fact_purchase_order (
    purchase_record_id           BIGINT PRIMARY KEY,
    purchase_order_id            INTEGER NOT NULL,                              -- The order; it has a row for each version.
    created_date                 DATE NOT NULL REFERENCES dim_date,             -- When it was entered.
    created_time                 TIME NOT NULL,
    last_updated_date            DATE NOT NULL REFERENCES dim_date,             -- When this version of it was entered.
    last_updated_time            TIME NOT NULL,
    staff_id                     INTEGER NOT NULL REFERENCES dim_staff,         -- Who placed it.
    counterparty_id              INTEGER NOT NULL REFERENCES dim_counterparty,  -- Who supplies it.
    item_code                    VARCHAR NOT NULL,                              -- The supplier's number of what is bought.
    item_quantity                INTEGER NOT NULL,                              -- How many of it.
    item_unit_price              NUMERIC NOT NULL,                              -- Of one, in the order's currency, with all its digits.
    currency_id                  INTEGER NOT NULL REFERENCES dim_currency,
    agreed_delivery_date         DATE NOT NULL REFERENCES dim_date,             -- When delivery is due.
    agreed_payment_date          DATE NOT NULL REFERENCES dim_date,             -- When payment is due.
    agreed_delivery_location_id  INTEGER NOT NULL REFERENCES dim_location       -- Where it is delivered.
) AS
SELECT
    purchase_order.purchase_order_id,
    CAST(purchase_order.created_at AS DATE) AS created_date,
    CAST(purchase_order.created_at AS TIME) AS created_time,
    CAST(purchase_order.last_updated AS DATE) AS last_updated_date,
    CAST(purchase_order.last_updated AS TIME) AS last_updated_time,
    purchase_order.staff_id,
    purchase_order.counterparty_id,
    purchase_order.item_code,
    purchase_order.item_quantity,
    purchase_order.item_unit_price,
    purchase_order.currency_id,
    purchase_order.agreed_delivery_date,
    purchase_order.agreed_payment_date,
    purchase_order.agreed_delivery_location_id
FROM purchase_order
