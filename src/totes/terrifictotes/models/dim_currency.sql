-- Currencies, with their ISO 4217 name.
CREATE TABLE dim_currency (
    currency_id    INTEGER PRIMARY KEY,
    currency_code  VARCHAR NOT NULL,
    currency_name  VARCHAR NOT NULL
) AS
SELECT
    currency.currency_id,
    currency.currency_code,
    iso_4217.currency_name
FROM currency
LEFT JOIN iso_4217 USING (currency_code)
