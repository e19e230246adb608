-- Customers and suppliers, with their legal address.
CREATE TABLE dim_counterparty (
    counterparty_id                    INTEGER PRIMARY KEY,
    counterparty_legal_name            VARCHAR NOT NULL,  -- The name that stands in contracts.
    counterparty_legal_address_line_1  VARCHAR NOT NULL,  -- Its registered address, as are the columns that follow.
    counterparty_legal_address_line_2  VARCHAR,
    counterparty_legal_district        VARCHAR,
    counterparty_legal_city            VARCHAR NOT NULL,
    counterparty_legal_postal_code     VARCHAR NOT NULL,
    counterparty_legal_country         VARCHAR NOT NULL,
    counterparty_legal_phone_number    VARCHAR NOT NULL
) AS
SELECT
    counterparty.counterparty_id,
    counterparty.counterparty_legal_name,
    address.address_line_1 AS counterparty_legal_address_line_1,
    address.address_line_2 AS counterparty_legal_address_line_2,
    address.district AS counterparty_legal_district,
    address.city AS counterparty_legal_city,
    address.postal_code AS counterparty_legal_postal_code,
    address.country AS counterparty_legal_country,
    address.phone AS counterparty_legal_phone_number
FROM counterparty
LEFT JOIN address ON address.address_id = counterparty.legal_address_id
