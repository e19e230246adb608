-- Sales orders, in every version they have had.
CREATE TABLE fact_sales_order (
    sales_record_id              BIGINT PRIMARY KEY,
    sales_order_id               INTEGER NOT NULL,                              -- The order; it has a row for each version.
    created_date                 DATE NOT NULL REFERENCES dim_date,             -- When it was entered.
    created_time                 TIME NOT NULL,
    last_updated_date            DATE NOT NULL REFERENCES dim_date,             -- When this version of it was entered.
    last_updated_time            TIME NOT NULL,
    sales_staff_id               INTEGER NOT NULL REFERENCES dim_staff,         -- Who sold it.
    counterparty_id              INTEGER NOT NULL REFERENCES dim_counterparty,  -- Who bought it.
    units_sold                   INTEGER NOT NULL,                              -- How many bags.
    unit_price                   NUMERIC(10,2) NOT NULL,                        -- Of one bag, in the order's currency.
    currency_id                  INTEGER NOT NULL REFERENCES dim_currency,
    design_id                    INTEGER NOT NULL REFERENCES dim_design,
    agreed_payment_date          DATE NOT NULL REFERENCES dim_date,             -- When payment is due.
    agreed_delivery_date         DATE NOT NULL REFERENCES dim_date,             -- When delivery is due.
    agreed_delivery_location_id  INTEGER NOT NULL REFERENCES dim_location       -- Where it is delivered.
) AS
SELECT
    sales_order.sales_order_id,
    CAST(sales_order.created_at AS DATE) AS created_date,
    CAST(sales_order.created_at AS TIME) AS created_time,
    CAST(sales_order.last_updated AS DATE) AS last_updated_date,
    CAST(sales_order.last_updated AS TIME) AS last_updated_time,
    sales_order.staff_id AS sales_staff_id,
    sales_order.counterparty_id,
    sales_order.units_sold,
    sales_order.unit_price,
    sales_order.currency_id,
    sales_order.design_id,
    sales_order.agreed_payment_date,
    sales_order.agreed_delivery_date,
    sales_order.agreed_delivery_location_id
FROM sales_order
