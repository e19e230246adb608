-- The company as it stood on the first day: everything that orders refer to. Identifiers count from 1 in the order
-- of the rows. {designs} is how many designs there are.

INSERT INTO address (address_line_1, address_line_2, district, city, postal_code, country, phone, created_at,
    last_updated)
SELECT line_1, line_2, district, city, postal_code, country, phone, timestamp '2024-10-01 09:00',
    timestamp '2024-10-01 09:00'
FROM (VALUES
    ('14 Mill Lane', NULL, 'Greater Manchester', 'Manchester', 'M4 6BF', 'United Kingdom', '0161 496 0142'),
    ('2 Harbour Yard', 'Unit 7', 'Bristol', 'Bristol', 'BS1 5TY', 'United Kingdom', '0117 496 0388'),
    ('81 Briggate', NULL, 'West Yorkshire', 'Leeds', 'LS1 6NP', 'United Kingdom', '0113 496 0715'),
    ('Dock Road Warehouse', 'Bay 3', 'Merseyside', 'Liverpool', 'L3 4BB', 'United Kingdom', '0151 496 0266'),
    ('5 Royal Arcade', NULL, NULL, 'Cardiff', 'CF10 1AE', 'United Kingdom', '029 2018 0451'),
    ('33 Leith Walk', 'Second floor', NULL, 'Edinburgh', 'EH6 8NX', 'United Kingdom', '0131 496 0907'),
    ('118 Buchanan Street', NULL, NULL, 'Glasgow', 'G1 2LW', 'United Kingdom', '0141 496 0533'),
    ('9 Brick Lane', 'Studio 12', 'Greater London', 'London', 'E1 6PU', 'United Kingdom', '020 7946 0612'),
    ('240 Holloway Road', NULL, 'Greater London', 'London', 'N7 6NE', 'United Kingdom', '020 7946 0184'),
    ('6 Castle Gate', NULL, 'Nottinghamshire', 'Nottingham', 'NG1 7AQ', 'United Kingdom', '0115 496 0870'),
    ('17 Grey Street', NULL, 'Tyne and Wear', 'Newcastle upon Tyne', 'NE1 6EE', 'United Kingdom', '0191 498 0325'),
    ('50 Lisburn Road', NULL, NULL, 'Belfast', 'BT9 6AF', 'United Kingdom', '028 9018 0678'),
    ('4 Dame Street', NULL, 'Leinster', 'Dublin', 'D02 HW54', 'Ireland', '+353 1 5550 136'),
    ('21 Oliver Plunkett Street', NULL, 'Munster', 'Cork', 'T12 XY86', 'Ireland', '+353 21 555 0199'),
    ('12 Rue des Martyrs', 'Bâtiment B', 'Île-de-France', 'Paris', '75009', 'France', '+33 1 99 00 41 27'),
    ('8 Quai des Chartrons', NULL, 'Nouvelle-Aquitaine', 'Bordeaux', '33000', 'France', '+33 5 36 49 02 15'),
    ('Torstraße 140', 'Hinterhaus', NULL, 'Berlin', '10119', 'Germany', '+49 30 2312 5044'),
    ('Große Elbstraße 38', NULL, NULL, 'Hamburg', '22767', 'Germany', '+49 40 6696 9183'),
    ('Sendlinger Straße 7', NULL, 'Bayern', 'München', '80331', 'Germany', '+49 89 9982 8471'),
    ('Prinsengracht 612', NULL, 'Noord-Holland', 'Amsterdam', '1017 KT', 'Netherlands', '+31 20 555 0173'),
    ('Meir 24', NULL, 'Antwerpen', 'Antwerpen', '2000', 'Belgium', '+32 3 555 01 68'),
    ('Calle de Fuencarral 77', 'Bajo', 'Madrid', 'Madrid', '28004', 'Spain', '+34 910 555 042'),
    ('Carrer de Verdi 30', NULL, 'Cataluña', 'Barcelona', '08012', 'Spain', '+34 930 555 017'),
    ('Rua do Almada 210', NULL, NULL, 'Porto', '4050-031', 'Portugal', '+351 22 555 0114'),
    ('Via Tortona 31', 'Scala C', 'Lombardia', 'Milano', '20144', 'Italy', '+39 02 5550 0193'),
    ('Jægersborggade 9', NULL, NULL, 'København', '2200', 'Denmark', '+45 55 50 12 88'),
    ('415 Bedford Avenue', 'Suite 4', 'New York', 'Brooklyn', '11249', 'United States', '+1 718 555 0146'),
    ('1902 Mission Street', NULL, 'California', 'San Francisco', '94103', 'United States', '+1 415 555 0121'),
    ('77 Newbury Street', NULL, 'Massachusetts', 'Boston', '02116', 'United States', '+1 617 555 0178'),
    ('820 Southeast Morrison Street', NULL, 'Oregon', 'Portland', '97214', 'United States', '+1 503 555 0109')
) AS row (line_1, line_2, district, city, postal_code, country, phone);

INSERT INTO counterparty
    (counterparty_legal_name, legal_address_id, commercial_contact, delivery_contact, created_at, last_updated)
SELECT legal_name, address_id, commercial, delivery, timestamp '2024-10-01 09:10', timestamp '2024-10-01 09:10'
FROM (VALUES
    ('Corner Shop Collective Ltd', 1, 'Priya Nair', 'Owen Pugh'),
    ('Harbour Books', 2, 'Martha Quill', NULL),
    ('Briggate Market Traders', 3, 'Sam Oyelaran', 'Sam Oyelaran'),
    ('Mersey Canvas Supplies Ltd', 4, 'Joan Fazakerley', 'Dock office'),
    ('Siop y Castell Cyf', 5, 'Rhian Beynon', NULL),
    ('Leith Wholefoods Co-operative', 6, NULL, 'Ailsa Grant'),
    ('Buchanan & Rae', 7, 'Hamish Rae', 'Stores'),
    ('Lane Nine Galleries plc', 8, 'Tomasz Wilk', 'Ines Barbosa'),
    ('Holloway Print Works', 9, 'Delroy Francis', NULL),
    ('Liffey Stationers', 13, 'Aoife Kinsella', 'Eoin Daly'),
    ('Lee Valley Yarns', 14, 'Siobhán Crowley', NULL),
    ('Librairie des Martyrs SARL', 15, 'Camille Besson', 'Hugo Lemoine'),
    ('Museumsladen Berlin GmbH', 17, 'Katrin Vogel', 'Warenannahme'),
    ('Elbe Baumwollkontor KG', 18, 'Jörg Petersen', 'Lager 2'),
    ('Grachten Boeken BV', 20, 'Sanne de Wit', NULL),
    ('Librería Malasaña SL', 22, 'Lucía Ferrer', 'Pablo Ortiz'),
    ('Algodões do Norte Lda', 24, 'Rui Teixeira', 'Marta Lopes'),
    ('Cartoleria Tortona Srl', 25, NULL, 'Chiara Galli'),
    ('Bedford Avenue Records LLC', 27, 'Dana Kowalski', 'Front desk'),
    ('Rose City Grocers Inc.', 30, 'Noah Whitfield', NULL)
) AS row (legal_name, address_id, commercial, delivery);

INSERT INTO currency (currency_code, created_at, last_updated)
SELECT code, timestamp '2024-10-01 09:20', timestamp '2024-10-01 09:20'
FROM (VALUES ('GBP'), ('USD'), ('EUR')) AS row (code);

-- The night shift has never been given a location.
INSERT INTO department (department_name, location, manager, created_at, last_updated)
SELECT department_name, location, manager, timestamp '2024-10-01 09:30', timestamp '2024-10-01 09:30'
FROM (VALUES
    ('Sales', 'Manchester', 'Ruth Adeyemi'),
    ('Purchasing', 'Manchester', 'Colin Marsh'),
    ('Production', 'Leeds', 'Bettina Krause'),
    ('Dispatch', 'Leeds', 'Mohammed Iqbal'),
    ('Finance', 'London', 'Fiona Strachan'),
    ('Facilities', 'Manchester', NULL),
    ('Communications', 'London', 'Theo Lindqvist'),
    ('Night Shift', NULL, NULL)
) AS row (department_name, location, manager);

INSERT INTO staff (first_name, last_name, department_id, email_address, created_at, last_updated)
SELECT first_name, last_name, department_id, lower(first_name || '.' || last_name) || '@terrifictotes.example',
    timestamp '2024-10-01 09:40', timestamp '2024-10-01 09:40'
FROM (VALUES
    ('Ruth', 'Adeyemi', 1), ('Kwame', 'Boateng', 1), ('Ellie', 'Hargreaves', 1), ('Jakub', 'Nowak', 1),
    ('Sunita', 'Rao', 1), ('Colin', 'Marsh', 2), ('Beatriz', 'Cardoso', 2), ('Liam', 'Doherty', 2),
    ('Bettina', 'Krause', 3), ('Yusuf', 'Demir', 3), ('Grace', 'Okafor', 3), ('Mohammed', 'Iqbal', 4),
    ('Hannah', 'Whittle', 4), ('Fiona', 'Strachan', 5), ('Daniel', 'Abara', 5), ('Megan', 'Price', 6),
    ('Theo', 'Lindqvist', 7), ('Amara', 'Nwosu', 7), ('Viktor', 'Hansen', 8), ('Shanice', 'Campbell', 8)
) AS row (first_name, last_name, department_id);

INSERT INTO design (design_name, file_location, file_name, created_at, last_updated)
SELECT name, '/designs/' || to_char(drawn_at, 'YYYY'),
    replace(lower(name), ' ', '-') || '-' || to_char(drawn_at, 'YYYYMMDD') || '.svg', drawn_at, drawn_at
FROM (
    SELECT
        adjective || ' ' || motif AS name,
        timestamp '2022-01-03 10:00' + number * interval '3 days' AS drawn_at,
        number
    FROM generate_series(1, {designs}) AS number
    CROSS JOIN LATERAL (
        SELECT
            (ARRAY['Bold', 'Quiet', 'Sunny', 'Wild', 'Faded', 'Indigo', 'Golden', 'Paper', 'Coastal', 'Winter',
                   'Folded', 'Speckled', 'Midnight', 'Rustic', 'Neon'])[1 + (number - 1) % 15] AS adjective,
            (ARRAY['Heron', 'Lighthouse', 'Fern', 'Bicycle', 'Teapot', 'Fox', 'Meadow', 'Compass', 'Pomegranate',
                   'Terrace', 'Whale', 'Lantern', 'Harvest', 'Swallow', 'Market', 'Anchor', 'Orchard', 'Moth',
                   'Canal', 'Comet'])[1 + (number - 1 + (number - 1) / 60) % 20] AS motif
    ) AS words
) AS drawn
ORDER BY number;

INSERT INTO payment_type (payment_type_name, created_at, last_updated)
SELECT name, timestamp '2024-10-01 09:50', timestamp '2024-10-01 09:50'
FROM (VALUES ('SALES_RECEIPT'), ('SALES_REFUND'), ('PURCHASE_PAYMENT'), ('PURCHASE_REFUND')) AS row (name);
