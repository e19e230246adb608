-- Addresses, as places of delivery.
CREATE TABLE dim_location (
    location_id     INTEGER PRIMARY KEY,  -- The address's own number in totesys.
    address_line_1  VARCHAR NOT NULL,
    address_line_2  VARCHAR,
    district        VARCHAR,
    city            VARCHAR NOT NULL,
    postal_code     VARCHAR NOT NULL,
    country         VARCHAR NOT NULL,
    phone           VARCHAR NOT NULL
) AS
SELECT
    address.address_id AS location_id,
    address.address_line_1,
    address.address_line_2,
    address.district,
    address.city,
    address.postal_code,
    address.country,
    address.phone
FROM address
