-- Transactions: each belongs to a sales order or to a purchase order.
CREATE TABLE dim_transaction (
    transaction_id     INTEGER PRIMARY KEY,
    transaction_type   VARCHAR NOT NULL,  -- SALE or PURCHASE.
    sales_order_id     INTEGER,           -- The order that was sold, for a SALE.
    purchase_order_id  INTEGER            -- The order that was placed, for a PURCHASE.
) AS
SELECT
    transaction.transaction_id,
    transaction.transaction_type,
    transaction.sales_order_id,
    transaction.purchase_order_id
FROM transaction
