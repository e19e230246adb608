-- Purchase orders, in every version they have had.
CREATE TABLE fact_purchase_order (
    purchase_record_id           BIGINT PRIMARY KEY,
    purchase_order_id            INTEGER NOT NULL,
    created_date                 DATE NOT NULL REFERENCES dim_date,
    created_time                 TIME NOT NULL,
    last_updated_date            DATE NOT NULL REFERENCES dim_date,
    last_updated_time            TIME NOT NULL,
    staff_id                     INTEGER NOT NULL REFERENCES dim_staff,
    counterparty_id              INTEGER NOT NULL REFERENCES dim_counterparty,
    item_code                    VARCHAR NOT NULL,
    item_quantity                INTEGER NOT NULL,
    item_unit_price              NUMERIC NOT NULL,
    currency_id                  INTEGER NOT NULL REFERENCES dim_currency,
    agreed_delivery_date         DATE NOT NULL REFERENCES dim_date,
    agreed_payment_date          DATE NOT NULL REFERENCES dim_date,
    agreed_delivery_location_id  INTEGER NOT NULL REFERENCES dim_location
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
