-- Kinds of payment.
CREATE TABLE dim_payment_type (
    payment_type_id    INTEGER PRIMARY KEY,
    payment_type_name  VARCHAR NOT NULL  -- Such as SALES_RECEIPT.
) AS
SELECT
    payment_type.payment_type_id,
    payment_type.payment_type_name
FROM payment_type
