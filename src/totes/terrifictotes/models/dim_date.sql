-- The calendar: every date that a fact references, and whole years around them.
CREATE TABLE dim_date (
    date_id      DATE PRIMARY KEY,  -- The day itself.
    year         INTEGER NOT NULL,
    month        INTEGER NOT NULL,
    day          INTEGER NOT NULL,
    day_of_week  INTEGER NOT NULL,  -- ISO: Monday is 1.
    day_name     VARCHAR NOT NULL,  -- In English.
    month_name   VARCHAR NOT NULL,  -- In English.
    quarter      INTEGER NOT NULL
) AS
SELECT
    calendar.date AS date_id,
    year(calendar.date) AS year,
    month(calendar.date) AS month,
    day(calendar.date) AS day,
    isodow(calendar.date) AS day_of_week,
    dayname(calendar.date) AS day_name,
    monthname(calendar.date) AS month_name,
    quarter(calendar.date) AS quarter
FROM calendar
