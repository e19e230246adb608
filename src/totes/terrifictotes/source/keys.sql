-- The keys of the tables in schema.sql, an index on `last_updated` where tables grow, and where new rows' numbers
-- start.

ALTER TABLE address ADD PRIMARY KEY (address_id);
ALTER TABLE counterparty ADD PRIMARY KEY (counterparty_id);
ALTER TABLE currency ADD PRIMARY KEY (currency_id);
ALTER TABLE department ADD PRIMARY KEY (department_id);
ALTER TABLE design ADD PRIMARY KEY (design_id);
ALTER TABLE staff ADD PRIMARY KEY (staff_id);
ALTER TABLE sales_order ADD PRIMARY KEY (sales_order_id);
ALTER TABLE purchase_order ADD PRIMARY KEY (purchase_order_id);
ALTER TABLE payment_type ADD PRIMARY KEY (payment_type_id);
ALTER TABLE transaction ADD PRIMARY KEY (transaction_id);
ALTER TABLE payment ADD PRIMARY KEY (payment_id);

ALTER TABLE counterparty
    ADD FOREIGN KEY (legal_address_id) REFERENCES address;

ALTER TABLE staff
    ADD FOREIGN KEY (department_id) REFERENCES department;

ALTER TABLE sales_order
    ADD FOREIGN KEY (design_id) REFERENCES design,
    ADD FOREIGN KEY (staff_id) REFERENCES staff,
    ADD FOREIGN KEY (counterparty_id) REFERENCES counterparty,
    ADD FOREIGN KEY (currency_id) REFERENCES currency,
    ADD FOREIGN KEY (agreed_delivery_location_id) REFERENCES address;

ALTER TABLE purchase_order
    ADD FOREIGN KEY (staff_id) REFERENCES staff,
    ADD FOREIGN KEY (counterparty_id) REFERENCES counterparty,
    ADD FOREIGN KEY (currency_id) REFERENCES currency,
    ADD FOREIGN KEY (agreed_delivery_location_id) REFERENCES address;

ALTER TABLE transaction
    ADD FOREIGN KEY (sales_order_id) REFERENCES sales_order,
    ADD FOREIGN KEY (purchase_order_id) REFERENCES purchase_order;

ALTER TABLE payment
    ADD FOREIGN KEY (transaction_id) REFERENCES transaction,
    ADD FOREIGN KEY (counterparty_id) REFERENCES counterparty,
    ADD FOREIGN KEY (currency_id) REFERENCES currency,
    ADD FOREIGN KEY (payment_type_id) REFERENCES payment_type;

CREATE INDEX sales_order_last_updated ON sales_order (last_updated);
CREATE INDEX purchase_order_last_updated ON purchase_order (last_updated);
CREATE INDEX transaction_last_updated ON transaction (last_updated);
CREATE INDEX payment_last_updated ON payment (last_updated);

SELECT setval(pg_get_serial_sequence('address', 'address_id'), max(address_id)) FROM address;
SELECT setval(pg_get_serial_sequence('counterparty', 'counterparty_id'), max(counterparty_id)) FROM counterparty;
SELECT setval(pg_get_serial_sequence('currency', 'currency_id'), max(currency_id)) FROM currency;
SELECT setval(pg_get_serial_sequence('department', 'department_id'), max(department_id)) FROM department;
SELECT setval(pg_get_serial_sequence('design', 'design_id'), max(design_id)) FROM design;
SELECT setval(pg_get_serial_sequence('staff', 'staff_id'), max(staff_id)) FROM staff;
SELECT setval(pg_get_serial_sequence('sales_order', 'sales_order_id'), max(sales_order_id)) FROM sales_order;
SELECT setval(pg_get_serial_sequence('purchase_order', 'purchase_order_id'), max(purchase_order_id))
FROM purchase_order;
SELECT setval(pg_get_serial_sequence('payment_type', 'payment_type_id'), max(payment_type_id)) FROM payment_type;
SELECT setval(pg_get_serial_sequence('transaction', 'transaction_id'), max(transaction_id)) FROM transaction;
SELECT setval(pg_get_serial_sequence('payment', 'payment_id'), max(payment_id)) FROM payment;

ANALYZE;
