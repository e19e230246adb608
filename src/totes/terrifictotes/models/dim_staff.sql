-- Staff, with the department they work in and where it is.
CREATE TABLE dim_staff (
    staff_id         INTEGER PRIMARY KEY,
    first_name       VARCHAR NOT NULL,
    last_name        VARCHAR NOT NULL,
    department_name  VARCHAR NOT NULL,  -- The department they work in now.
    location         VARCHAR NOT NULL,  -- Where that department is; Undefined if it says nowhere.
    email_address    VARCHAR NOT NULL
) AS
SELECT
    staff.staff_id,
    staff.first_name,
    staff.last_name,
    department.department_name,
    COALESCE(department.location, 'Undefined') AS location,
    staff.email_address
FROM staff
LEFT JOIN department USING (department_id)
