-- Tote bag designs, and where their artwork is stored.
CREATE TABLE dim_design (
    design_id      INTEGER PRIMARY KEY,
    design_name    VARCHAR NOT NULL,  -- What the catalogue calls it.
    file_location  VARCHAR NOT NULL,  -- The folder of its artwork.
    file_name      VARCHAR NOT NULL   -- The artwork's file in that folder.
) AS
SELECT
    design.design_id,
    design.design_name,
    design.file_location,
    design.file_name
FROM design
