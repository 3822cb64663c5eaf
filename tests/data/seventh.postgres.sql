CREATE TABLE public.access_tokens (
    token_hash text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    user_id bigint,
    password_tag text,
    grants text NOT NULL,
    address text NOT NULL,
    agent text NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    used_at bigint,
    parent text,
    parent_kind text,
    parent_expires_at bigint
);

CREATE TABLE public.connections (
    id bigint NOT NULL,
    node text NOT NULL,
    client_id text NOT NULL,
    transport text NOT NULL,
    ip_address text NOT NULL,
    user_agent text NOT NULL,
    username text,
    channels text NOT NULL,
    connected_at bigint NOT NULL,
    last_ping bigint NOT NULL,
    message_count bigint NOT NULL,
    bytes_sent bigint NOT NULL,
    lag bigint NOT NULL,
    status text NOT NULL
);

CREATE TABLE public.event_logs (
    id bigint NOT NULL,
    "timestamp" bigint NOT NULL,
    level text NOT NULL,
    message text NOT NULL,
    metadata text NOT NULL
);

CREATE SEQUENCE public.event_logs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.event_logs_id_seq OWNED BY public.event_logs.id;

CREATE TABLE public.idempotency_keys (
    key_hash text NOT NULL,
    body_hash text NOT NULL,
    answer text NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE public.messages (
    id bigint NOT NULL,
    topic text NOT NULL,
    kind text NOT NULL,
    event text,
    content text NOT NULL,
    attachments bytea,
    sender text,
    exclude text,
    batch text NOT NULL,
    recipient_count integer NOT NULL,
    expires_at bigint,
    sent_at bigint NOT NULL
);

CREATE TABLE public.meta (
    key text NOT NULL,
    value text NOT NULL
);

CREATE TABLE public.nodes (
    id text NOT NULL,
    name text NOT NULL,
    started bigint NOT NULL,
    heartbeat bigint NOT NULL,
    audience text NOT NULL
);

CREATE TABLE public.room_bans (
    room_id bigint NOT NULL,
    who text NOT NULL
);

CREATE TABLE public.server_settings (
    key text NOT NULL,
    value text NOT NULL,
    description text,
    updated_at bigint NOT NULL
);

CREATE TABLE public.socket_sessions (
    pid_hash text NOT NULL,
    namespace text NOT NULL,
    client_id text NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    "position" text NOT NULL,
    node text NOT NULL,
    left_at bigint
);

CREATE TABLE public.stats_minutes (
    minute bigint NOT NULL,
    node text NOT NULL,
    counters text NOT NULL
);

CREATE TABLE public.topics (
    topic text NOT NULL,
    trimmed_id bigint NOT NULL
);

CREATE TABLE public.users (
    id bigint NOT NULL,
    username text NOT NULL,
    username_key text NOT NULL,
    password_hash text NOT NULL,
    role text NOT NULL,
    created_at bigint NOT NULL
);

CREATE SEQUENCE public.users_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.users_id_seq OWNED BY public.users.id;

CREATE TABLE public.video_participants (
    id bigint NOT NULL,
    room_id bigint NOT NULL,
    client_id text NOT NULL,
    connection_id text NOT NULL,
    account text NOT NULL,
    user_id text NOT NULL,
    display_name text NOT NULL,
    is_host integer NOT NULL,
    status text NOT NULL,
    state text NOT NULL,
    node text NOT NULL,
    beats integer NOT NULL,
    joined_at bigint NOT NULL
);

CREATE SEQUENCE public.video_participants_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.video_participants_id_seq OWNED BY public.video_participants.id;

CREATE TABLE public.video_rooms (
    id bigint NOT NULL,
    room_id text NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    host_id text NOT NULL,
    owner_client text NOT NULL,
    owner_account text NOT NULL,
    handed integer NOT NULL,
    max_participants integer NOT NULL,
    password_hash text,
    locked integer NOT NULL,
    lobby integer NOT NULL,
    pinned integer NOT NULL,
    created_at bigint NOT NULL,
    empty_since bigint,
    ended_at bigint,
    listed integer DEFAULT 0 NOT NULL
);

CREATE SEQUENCE public.video_rooms_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE public.video_rooms_id_seq OWNED BY public.video_rooms.id;

ALTER TABLE ONLY public.event_logs ALTER COLUMN id SET DEFAULT nextval('public.event_logs_id_seq'::regclass);

ALTER TABLE ONLY public.users ALTER COLUMN id SET DEFAULT nextval('public.users_id_seq'::regclass);

ALTER TABLE ONLY public.video_participants ALTER COLUMN id SET DEFAULT nextval('public.video_participants_id_seq'::regclass);

ALTER TABLE ONLY public.video_rooms ALTER COLUMN id SET DEFAULT nextval('public.video_rooms_id_seq'::regclass);

INSERT INTO public.access_tokens VALUES ('92bd9de414963b59317702344f3a8194dadc83fe098b9dcad84f18559b6122b3', 'api', 'reader', NULL, NULL, '{"scopes":["subscribe"],"subscribe":["news"],"publish":["news"]}', '', '', 1796070922913, 1827606922913, NULL, NULL, NULL, NULL);

INSERT INTO public.event_logs VALUES (1, 1796070922693, 'INFO', 'Server started', '{"version":"0.1.0"}');
INSERT INTO public.event_logs VALUES (2, 1796070922902, 'INFO', 'User made', '{"by":"admin-token","ipAddress":"127.0.0.1","username":"ada","role":"admin"}');
INSERT INTO public.event_logs VALUES (3, 1796070922925, 'INFO', 'API token made', '{"by":"admin-token","ipAddress":"127.0.0.1","name":"reader"}');
INSERT INTO public.event_logs VALUES (4, 1796070922933, 'CONN', 'Stream opened', '{"clientId":"fyCvPamqjfrcNeyCX_TLE","ipAddress":"127.0.0.1","transport":"sse"}');
INSERT INTO public.event_logs VALUES (5, 1796070922933, 'CONN', 'Stream closed', '{"clientId":"fyCvPamqjfrcNeyCX_TLE","ipAddress":"127.0.0.1","reason":"closed by the client"}');
INSERT INTO public.event_logs VALUES (6, 1796070922981, 'CONN', 'Stream opened', '{"clientId":"FiSNMo6yuMh18ZBuUt3_J","ipAddress":"127.0.0.1","transport":"socket.io"}');
INSERT INTO public.event_logs VALUES (7, 1796070923012, 'CONN', 'Stream closed', '{"clientId":"FiSNMo6yuMh18ZBuUt3_J","ipAddress":"127.0.0.1","reason":"transport close"}');
INSERT INTO public.event_logs VALUES (8, 1796070923040, 'INFO', 'Setting changed', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"max_connections"}');
INSERT INTO public.event_logs VALUES (9, 1796070923048, 'INFO', 'Setting changed', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"x-color"}');
INSERT INTO public.event_logs VALUES (10, 1796070923059, 'INFO', 'Setting changed', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"history_messages"}');
INSERT INTO public.event_logs VALUES (11, 1796070982704, 'MSG', 'Messages published and delivered', '{"messages":12,"deliveries":1}');
INSERT INTO public.event_logs VALUES (12, 1796070982728, 'INFO', 'Setting set back', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"history_messages"}');
INSERT INTO public.event_logs VALUES (13, 1796070982740, 'INFO', 'Room made', '{"roomId":"team","by":"admin-token"}');
INSERT INTO public.event_logs VALUES (14, 1796070982772, 'CONN', 'Joined a room', '{"roomId":"team","clientId":"atfZhUOYGTgWexsOCiK5T","ipAddress":"127.0.0.1"}');
INSERT INTO public.event_logs VALUES (15, 1796070982796, 'CONN', 'Joined a room', '{"roomId":"team","clientId":"QRHpPzmiBR-NOBvN2as2u","ipAddress":"127.0.0.1"}');
INSERT INTO public.event_logs VALUES (16, 1796070982814, 'INFO', 'Host''s action: remove', '{"roomId":"team","participantId":2,"by":"admin-token","ipAddress":"127.0.0.1"}');
INSERT INTO public.event_logs VALUES (17, 1796071044128, 'CONN', 'Stream opened', '{"clientId":"pBUkL5wcwRJDAG3AQTj4T","ipAddress":"127.0.0.1","transport":"socket.io"}');
INSERT INTO public.event_logs VALUES (18, 1796071044483, 'CONN', 'Stream closed', '{"clientId":"pBUkL5wcwRJDAG3AQTj4T","ipAddress":"127.0.0.1","reason":"transport close"}');
INSERT INTO public.event_logs VALUES (19, 1796071044986, 'INFO', 'Server stopped', '{}');

INSERT INTO public.idempotency_keys VALUES ('f2f4c3055059030935d34fc1831e8fb9d798fa765716ffdb939a8eb7e45243c8', '3b48504afb5cf21924953df99e5b1b3210705a89dc4e60e291371ed395083730', '{"success":true,"recipientCount":0,"message":{"id":11,"type":"message","content":{"a":1},"channel":null,"event":null,"sentAt":"2026-11-30T20:35:23.012Z","recipientCount":0}}', 1796070923016);

INSERT INTO public.messages VALUES (5, '*', 'message', NULL, '{"type":"notification","message":"to all"}', NULL, NULL, NULL, 'da1c1216a9efb5f6c43e3680534e55c1', 0, NULL, 1796070922952);
INSERT INTO public.messages VALUES (6, 'c/news', 'message', NULL, '{"message":"hello 0"}', NULL, NULL, NULL, '5b0720d71259f1bcefbc02110bb9c122', 0, NULL, 1796070922954);
INSERT INTO public.messages VALUES (7, 'c/news', 'message', 'headline', '{"message":"hello 1"}', NULL, NULL, NULL, '52ad0de333ebe9f4776b6f838a1e94f3', 0, NULL, 1796070922959);
INSERT INTO public.messages VALUES (8, 'c/weather', 'message', NULL, '"rain"', NULL, NULL, NULL, 'b64314d2df7ce9a56b2c3c94d962b890', 0, NULL, 1796070922962);
INSERT INTO public.messages VALUES (9, 'u/fyCvPamqjfrcNeyCX_TLE', 'message', NULL, '{"message":"for you"}', NULL, NULL, NULL, '1490e61c8fcf90d1d5970c2b5b0e7099', 0, NULL, 1796070922968);
INSERT INTO public.messages VALUES (10, '*', 'message', 'picture', '[{"_placeholder":true,"num":0},"a dot"]', '\x92a091c4030102ff', 'FiSNMo6yuMh18ZBuUt3_J', NULL, '35e21f9019d7b6c6dfa180b0cfcb1e03', 1, NULL, 1796070922992);
INSERT INTO public.messages VALUES (11, '*', 'message', NULL, '{"a":1}', NULL, NULL, NULL, 'f4d0e50fefbf0abefa4a575cbc3d9c52', 0, NULL, 1796070923012);
INSERT INTO public.messages VALUES (12, 'c/news', 'message', NULL, '{"message":"hello 2"}', NULL, NULL, NULL, '24c0026497b686dc924e111889eae33d', 0, NULL, 1796070923020);
INSERT INTO public.messages VALUES (13, 'sys/hub', 'control', 'setting', '{}', NULL, NULL, NULL, 'c41aab14600663fffb5cb99d3cab212e', 0, 1796074523028, 1796070923028);
INSERT INTO public.messages VALUES (14, 'sys/hub', 'control', 'setting', '{}', NULL, NULL, NULL, '49ce42cbed29e168d341da9ce8fc9dac', 0, 1796074523045, 1796070923045);
INSERT INTO public.messages VALUES (15, 'sys/hub', 'control', 'setting', '{}', NULL, NULL, NULL, '41c5fc90d6c4df6d80a542ab11a8ee3f', 0, 1796074523057, 1796070923057);
INSERT INTO public.messages VALUES (16, 'sys/hub', 'control', 'trimmed', '{"topics":{"c/old":3,"c/news":4},"floor":0}', NULL, NULL, NULL, 'a8c390e1eb98e436252895b0d1e03170', 0, 1796074582699, 1796070982699);
INSERT INTO public.messages VALUES (17, 'sys/hub', 'control', 'setting', '{}', NULL, NULL, NULL, 'c67b9029c4e773c39f5a0a20cbdc29d6', 0, 1796074582725, 1796070982725);
INSERT INTO public.messages VALUES (18, 'sys/hub', 'control', 'participant', '{"grace":null,"room_id":"team","id":1,"room":1,"client_id":"atfZhUOYGTgWexsOCiK5T","connection_id":"Jkza9WP6ONvn","account":"","user_id":"null","status":"connected","node":"one-b56a7d","beats":0}', NULL, NULL, NULL, '8f65ffff044ade4203a15573baf6cccb', 0, 1796074582768, 1796070982768);
INSERT INTO public.messages VALUES (19, 'r/1', 'video', 'participant-joined', '{"type":"participant-joined","roomId":"team","participant":{"id":1,"clientId":"atfZhUOYGTgWexsOCiK5T","connectionId":"Jkza9WP6ONvn","userId":null,"displayName":"Ada","isHost":false,"status":"connected","joinedAt":"2026-11-30T20:36:22.764Z","audio":false,"video":false,"screen":false,"hand":false,"handAt":null,"muted":false,"cameraOff":false}}', NULL, NULL, 'atfZhUOYGTgWexsOCiK5T', '8f65ffff044ade4203a15573baf6cccb', 0, NULL, 1796070982768);
INSERT INTO public.messages VALUES (20, 'sys/hub', 'control', 'participant', '{"grace":null,"room_id":"team","id":2,"room":1,"client_id":"QRHpPzmiBR-NOBvN2as2u","connection_id":"uUjG0wz19OH7","account":"","user_id":"null","status":"connected","node":"one-b56a7d","beats":0}', NULL, NULL, NULL, 'b500d8746cca493136f93bfdc08035f3', 0, 1796074582794, 1796070982794);
INSERT INTO public.messages VALUES (21, 'r/1', 'video', 'participant-joined', '{"type":"participant-joined","roomId":"team","participant":{"id":2,"clientId":"QRHpPzmiBR-NOBvN2as2u","connectionId":"uUjG0wz19OH7","userId":null,"displayName":"Ben","isHost":false,"status":"connected","joinedAt":"2026-11-30T20:36:22.790Z","audio":false,"video":false,"screen":false,"hand":false,"handAt":null,"muted":false,"cameraOff":false}}', NULL, NULL, 'QRHpPzmiBR-NOBvN2as2u', 'b500d8746cca493136f93bfdc08035f3', 0, NULL, 1796070982794);
INSERT INTO public.messages VALUES (22, 'u/QRHpPzmiBR-NOBvN2as2u', 'signal', 'room-left', '{"type":"room-left","roomId":"team","connectionId":"uUjG0wz19OH7","reason":"removed"}', NULL, NULL, NULL, '3159ca77ec0783ecb5e3b199254f8372', 0, 1796071042807, 1796070982807);
INSERT INTO public.messages VALUES (23, 'r/1', 'video', 'participant-left', '{"type":"participant-left","roomId":"team","connectionId":"uUjG0wz19OH7","reason":"removed","participantId":2,"clientId":"QRHpPzmiBR-NOBvN2as2u","userId":null,"displayName":"Ben"}', NULL, NULL, 'QRHpPzmiBR-NOBvN2as2u', '3159ca77ec0783ecb5e3b199254f8372', 0, NULL, 1796070982807);

INSERT INTO public.meta VALUES ('schema_version', '7');
INSERT INTO public.meta VALUES ('epoch', 'd3010ad5');
INSERT INTO public.meta VALUES ('timeline', '00000001');
INSERT INTO public.meta VALUES ('boot', '21be8c89-09cf-4b26-a1e1-63d2b5f7412e');
INSERT INTO public.meta VALUES ('id', 'f1e530d898ed');
INSERT INTO public.meta VALUES ('durability', 'full');
INSERT INTO public.meta VALUES ('head', '27');
INSERT INTO public.meta VALUES ('clean', '1');

INSERT INTO public.room_bans VALUES (1, 'client:QRHpPzmiBR-NOBvN2as2u');

INSERT INTO public.server_settings VALUES ('max_connections', '1000', NULL, 1796070923026);
INSERT INTO public.server_settings VALUES ('x-color', '"blue"', NULL, 1796070923043);

INSERT INTO public.socket_sessions VALUES ('b0479966fb6fbb147753f6cf46d66eff175823535bc8a95a3479a1011569ecce', '/', 'pBUkL5wcwRJDAG3AQTj4T', 'admin-token', '{"rooms":[],"channels":["*","c/news"],"data":{}}', 'd3010ad5-27', 'one-b56a7d', 1796071044481);

INSERT INTO public.stats_minutes VALUES (1796070960000, 'one-b56a7d', '{"transports":{},"messagesSent":12,"deliveries":1,"publishLatencyMs":{"p50":1.72,"p99":6.01},"cpuPercent":15.0,"memoryBytes":72073216,"activeConnections":0,"bytesSent":921,"messagesPerSecond":0.2,"deliveriesPerSecond":0.0,"videoParticipants":0,"activeVideoRooms":0}');
INSERT INTO public.stats_minutes VALUES (1796071020000, 'one-b56a7d', '{"transports":{},"messagesSent":12,"deliveries":1,"publishLatencyMs":{"p50":1.72,"p99":6.01},"cpuPercent":2.2,"memoryBytes":50589696,"activeConnections":0,"bytesSent":1332,"messagesPerSecond":0.0,"deliveriesPerSecond":0.0,"videoParticipants":1,"activeVideoRooms":1}');

INSERT INTO public.topics VALUES ('c/old', 3);
INSERT INTO public.topics VALUES ('c/news', 4);

INSERT INTO public.users VALUES (1, 'ada', 'ada', 'scrypt$35e8245afbf8e71960836c2bc7a2c80e$26a5c615a408a9076abb3cc505797cb9a9661e011fe05d3213cc9b87d97f87ba', 'admin', 1796070922897);

INSERT INTO public.video_participants VALUES (1, 1, 'atfZhUOYGTgWexsOCiK5T', 'Jkza9WP6ONvn', '', 'null', 'Ada', 0, 'connected', '{"audio":false,"video":false,"screen":false,"hand":false,"handAt":null,"muted":false,"cameraOff":false}', 'one-b56a7d', 1, 1796070982764);

INSERT INTO public.video_rooms VALUES (1, 'team', 'Team', 'Every day at nine', 'null', '', 'admin-token', 0, 10, NULL, 0, 0, 1, 1796070982737, NULL, NULL, 1);

SELECT pg_catalog.setval('public.event_logs_id_seq', 19, true);

SELECT pg_catalog.setval('public.users_id_seq', 1, true);

SELECT pg_catalog.setval('public.video_participants_id_seq', 2, true);

SELECT pg_catalog.setval('public.video_rooms_id_seq', 1, true);

ALTER TABLE ONLY public.access_tokens
    ADD CONSTRAINT access_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (node, id);

ALTER TABLE ONLY public.event_logs
    ADD CONSTRAINT event_logs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (key_hash);

ALTER TABLE ONLY public.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.room_bans
    ADD CONSTRAINT room_bans_pkey PRIMARY KEY (room_id, who);

ALTER TABLE ONLY public.server_settings
    ADD CONSTRAINT server_settings_pkey PRIMARY KEY (key);

ALTER TABLE ONLY public.socket_sessions
    ADD CONSTRAINT socket_sessions_pkey PRIMARY KEY (pid_hash);

ALTER TABLE ONLY public.stats_minutes
    ADD CONSTRAINT stats_minutes_pkey PRIMARY KEY (minute, node);

ALTER TABLE ONLY public.topics
    ADD CONSTRAINT topics_pkey PRIMARY KEY (topic);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_username_key_key UNIQUE (username_key);

ALTER TABLE ONLY public.video_participants
    ADD CONSTRAINT video_participants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.video_rooms
    ADD CONSTRAINT video_rooms_pkey PRIMARY KEY (id);

CREATE INDEX access_tokens_parent ON public.access_tokens USING btree (parent);

CREATE INDEX access_tokens_user_id ON public.access_tokens USING btree (user_id);

CREATE INDEX connections_client_id ON public.connections USING btree (client_id);

CREATE INDEX event_logs_timestamp ON public.event_logs USING btree ("timestamp");

CREATE INDEX idempotency_keys_created_at ON public.idempotency_keys USING btree (created_at);

CREATE INDEX messages_expires_at ON public.messages USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX messages_topic_id ON public.messages USING btree (topic, id);

CREATE INDEX socket_sessions_left_at ON public.socket_sessions USING btree (left_at);

CREATE INDEX video_participants_client ON public.video_participants USING btree (client_id);

CREATE UNIQUE INDEX video_participants_room ON public.video_participants USING btree (room_id, client_id);

CREATE UNIQUE INDEX video_rooms_active ON public.video_rooms USING btree (room_id) WHERE (ended_at IS NULL);
