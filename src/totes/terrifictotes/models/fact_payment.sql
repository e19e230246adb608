-- Payments, made and due, in every version they have had.
CREATE TABLE fact_payment (
    payment_record_id  BIGINT PRIMARY KEY,
    payment_id         INTEGER NOT NULL,                              -- The payment; it has a row for each version.
    created_date       DATE NOT NULL REFERENCES dim_date,             -- When it was entered.
    created_time       TIME NOT NULL,
    last_updated_date  DATE NOT NULL REFERENCES dim_date,             -- When this version of it was entered.
    last_updated_time  TIME NOT NULL,
    transaction_id     INTEGER NOT NULL REFERENCES dim_transaction,   -- What it is for.
    counterparty_id    INTEGER NOT NULL REFERENCES dim_counterparty,  -- Who pays, or is paid.
    payment_amount     NUMERIC NOT NULL,                              -- In the payment's currency, with all its digits.
    currency_id        INTEGER NOT NULL REFERENCES dim_currency,
    payment_type_id    INTEGER NOT NULL REFERENCES dim_payment_type,
    paid               BOOLEAN NOT NULL,                              -- Whether it has been made.
    payment_date       DATE NOT NULL REFERENCES dim_date              -- When it was made, or is due.
) AS
SELECT
    payment.payment_id,
    CAST(payment.created_at AS DATE) AS created_date,
    CAST(payment.created_at AS TIME) AS created_time,
    CAST(payment.last_updated AS DATE) AS last_updated_date,
    CAST(payment.last_updated AS TIME) AS last_updated_time,
    payment.transaction_id,
    payment.counterparty_id,
    payment.payment_amount,
    payment.currency_id,
    payment.payment_type_id,
    payment.paid,
    payment.payment_date
FROM payment
