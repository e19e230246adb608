-- Currencies, with their ISO 4217 name.
CREATE TABLE dim_currency (
    currency_id    INTEGER PRIMARY KEY,
    currency_code  VARCHAR NOT NULL,  -- ISO 4217, such as GBP.
    currency_name  VARCHAR NOT NULL   -- Its name in ISO 4217.
) AS
SELECT
    currency.currency_id,
    currency.currency_code,
    iso_4217.currency_name
FROM currency
LEFT JOIN iso_4217 USING (currency_code)
