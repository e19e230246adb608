-- As an old Rails application has them: hardly a foreign key, links without keys, what belongs to several kinds of things.
CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
CREATE TABLE ar_internal_metadata (key varchar PRIMARY KEY, value varchar, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL);
CREATE TABLE users (
    id bigserial PRIMARY KEY, email varchar DEFAULT '' NOT NULL, encrypted_password varchar NOT NULL, reset_password_token varchar,
    reset_password_sent_at timestamp, sign_in_count int DEFAULT 0 NOT NULL, role int DEFAULT 0 NOT NULL, time_zone varchar,
    invited_by_id bigint, created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE boards (
    id bigserial PRIMARY KEY, name varchar NOT NULL, slug varchar, "position" int, parent_id bigint REFERENCES boards,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE posts (
    id bigserial PRIMARY KEY, board_id bigint NOT NULL, user_id bigint, title varchar NOT NULL, body text, tags text[] DEFAULT '{}',
    settings jsonb DEFAULT '{}' NOT NULL, "type" varchar, published_at timestamp(6), deleted_at timestamp(6), is_deleted boolean,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE comments (
    id bigserial PRIMARY KEY, commentable_type varchar NOT NULL, commentable_id bigint NOT NULL, user_id bigint, body text NOT NULL,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE votes (
    id bigserial PRIMARY KEY, post_id bigint NOT NULL REFERENCES posts, user_id bigint NOT NULL REFERENCES users, value int NOT NULL,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE orders (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL, state varchar NOT NULL, total numeric, currency char(3) NOT NULL,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE line_items (
    id bigserial PRIMARY KEY, order_id bigint NOT NULL, product varchar NOT NULL, quantity int NOT NULL, unit_price_cents bigint NOT NULL,
    created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL
);
CREATE TABLE badges_users (badge_id bigint NOT NULL, user_id bigint NOT NULL);
CREATE UNIQUE INDEX ON badges_users (badge_id, user_id);
CREATE TABLE badges (id bigserial PRIMARY KEY, name varchar NOT NULL, "order" int);
CREATE TABLE boards_users (board_id bigint, user_id bigint);
CREATE TABLE "user" (id serial PRIMARY KEY, name text, "group" int, "desc" text);
INSERT INTO users (email, encrypted_password, created_at, updated_at)
    SELECT 'user' || n || '@forum.example', 'x', '2026-01-01', '2026-01-01' FROM generate_series(1, 20) AS n;
INSERT INTO boards (name, parent_id, created_at, updated_at)
    VALUES ('News', NULL, '2026-01-01', '2026-01-01'), ('Old news', 1, '2026-01-01', '2026-01-01');
INSERT INTO posts (board_id, user_id, title, tags, is_deleted, created_at, updated_at)
    SELECT 1 + n % 3, CASE WHEN n % 5 > 0 THEN n END, 'Post ' || n, '{a,"b c"}', n % 2 = 0, '2026-01-02', '2026-01-02'
    FROM generate_series(1, 30) AS n;
INSERT INTO comments (commentable_type, commentable_id, user_id, body, created_at, updated_at)
    SELECT 'Post', n, 1 + n % 25, 'Hm', '2026-01-03', '2026-01-03' FROM generate_series(1, 60) AS n;
INSERT INTO votes (post_id, user_id, value, created_at, updated_at) SELECT n, n % 20 + 1, 1, '2026-01-03', '2026-01-03' FROM generate_series(1, 30) AS n;
INSERT INTO orders (user_id, state, total, currency, created_at, updated_at)
    SELECT n, 'paid', 12.5, 'EUR', timestamp '2026-01-04' + n * interval '1 day', '2026-01-04' FROM generate_series(1, 25) AS n;
INSERT INTO line_items (order_id, product, quantity, unit_price_cents, created_at, updated_at)
    SELECT 1 + n % 25, 'Mug', 1, 1250, '2026-01-04', '2026-01-04' FROM generate_series(1, 50) AS n;
INSERT INTO badges (name, "order") VALUES ('first', 1), ('last', 2);
INSERT INTO badges_users VALUES (1, 1), (2, 1), (1, 2);
INSERT INTO boards_users VALUES (1, 1), (1, 1), (NULL, 2);
INSERT INTO "user" (name, "group", "desc") VALUES ('x', 1, 'y');
