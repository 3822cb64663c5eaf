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
    used_at bigint
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
    last_id bigint NOT NULL,
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
    heard_at bigint NOT NULL,
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
    ended_at bigint
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

INSERT INTO public.access_tokens VALUES ('4ea03bed91067050af7204521dfd528ca2e401a024acb839bc3afc98d06c52bd', 'api', 'reader', NULL, NULL, '{"scopes":["subscribe"],"subscribe":["news"],"publish":["news"]}', '', '', 1795988492434, 1827524492434, NULL);
INSERT INTO public.event_logs VALUES (1, 1795988492187, 'INFO', 'Server started', '{"version":"0.1.0"}');
INSERT INTO public.event_logs VALUES (2, 1795988492427, 'INFO', 'User made', '{"by":"admin-token","ipAddress":"127.0.0.1","username":"ada","role":"admin"}');
INSERT INTO public.event_logs VALUES (3, 1795988492447, 'INFO', 'API token made', '{"by":"admin-token","ipAddress":"127.0.0.1","name":"reader"}');
INSERT INTO public.event_logs VALUES (4, 1795988492451, 'CONN', 'Stream opened', '{"clientId":"fyCvPamqjfrcNeyCX_TLE","ipAddress":"127.0.0.1","transport":"sse"}');
INSERT INTO public.event_logs VALUES (5, 1795988492453, 'CONN', 'Stream closed', '{"clientId":"fyCvPamqjfrcNeyCX_TLE","ipAddress":"127.0.0.1","reason":"closed by the client"}');
INSERT INTO public.event_logs VALUES (6, 1795988492519, 'CONN', 'Stream opened', '{"clientId":"DfOKW9f7iifRn_B9-XZZ-","ipAddress":"127.0.0.1","transport":"socket.io"}');
INSERT INTO public.event_logs VALUES (7, 1795988492545, 'CONN', 'Stream closed', '{"clientId":"DfOKW9f7iifRn_B9-XZZ-","ipAddress":"127.0.0.1","reason":"transport close"}');
INSERT INTO public.event_logs VALUES (8, 1795988492570, 'INFO', 'Setting changed', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"max_connections"}');
INSERT INTO public.event_logs VALUES (9, 1795988492591, 'INFO', 'Setting changed', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"x-color"}');
INSERT INTO public.event_logs VALUES (10, 1795988492611, 'INFO', 'Setting changed', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"history_messages"}');
INSERT INTO public.event_logs VALUES (11, 1795988552190, 'MSG', 'Messages published and delivered', '{"messages":12,"deliveries":1}');
INSERT INTO public.event_logs VALUES (12, 1795988552216, 'INFO', 'Setting set back', '{"by":"admin-token","ipAddress":"127.0.0.1","key":"history_messages"}');
INSERT INTO public.event_logs VALUES (13, 1795988552220, 'INFO', 'Room made', '{"roomId":"team","by":"admin-token"}');
INSERT INTO public.event_logs VALUES (14, 1795988552231, 'CONN', 'Joined a room', '{"roomId":"team","clientId":"atfZhUOYGTgWexsOCiK5T","ipAddress":"127.0.0.1"}');
INSERT INTO public.event_logs VALUES (15, 1795988552243, 'CONN', 'Joined a room', '{"roomId":"team","clientId":"QRHpPzmiBR-NOBvN2as2u","ipAddress":"127.0.0.1"}');
INSERT INTO public.event_logs VALUES (16, 1795988552253, 'INFO', 'Host''s action: remove', '{"roomId":"team","participantId":2,"by":"admin-token","ipAddress":"127.0.0.1"}');
INSERT INTO public.event_logs VALUES (17, 1795988612317, 'CONN', 'Stream opened', '{"clientId":"Pd7rkH4_nc4Ff_0iFUqyW","ipAddress":"127.0.0.1","transport":"socket.io"}');
INSERT INTO public.event_logs VALUES (18, 1795988612325, 'CONN', 'Stream closed', '{"clientId":"Pd7rkH4_nc4Ff_0iFUqyW","ipAddress":"127.0.0.1","reason":"transport close"}');
INSERT INTO public.event_logs VALUES (19, 1795988613201, 'INFO', 'Server stopped', '{}');
INSERT INTO public.idempotency_keys VALUES ('f2f4c3055059030935d34fc1831e8fb9d798fa765716ffdb939a8eb7e45243c8', '3b48504afb5cf21924953df99e5b1b3210705a89dc4e60e291371ed395083730', '{"success":true,"recipientCount":0,"message":{"id":11,"type":"message","content":{"a":1},"channel":null,"event":null,"sentAt":"2026-11-29T21:41:32.546Z","recipientCount":0}}', 1795988492547);
INSERT INTO public.messages VALUES (5, '*', 'message', NULL, '{"type":"notification","message":"to all"}', NULL, NULL, NULL, 'b3e0c730bd6a479392087917d0cbaefd', 0, NULL, 1795988492485);
INSERT INTO public.messages VALUES (6, 'c/news', 'message', NULL, '{"message":"hello 0"}', NULL, NULL, NULL, '056da0c1914241f7a6f9aeb3cb46e394', 0, NULL, 1795988492493);
INSERT INTO public.messages VALUES (7, 'c/news', 'message', 'headline', '{"message":"hello 1"}', NULL, NULL, NULL, 'bc08cf88bad2461fa0797c36070a5418', 0, NULL, 1795988492499);
INSERT INTO public.messages VALUES (8, 'c/weather', 'message', NULL, '"rain"', NULL, NULL, NULL, '7f72fb66ab734109a544c21480a364e5', 0, NULL, 1795988492504);
INSERT INTO public.messages VALUES (9, 'u/fyCvPamqjfrcNeyCX_TLE', 'message', NULL, '{"message":"for you"}', NULL, NULL, NULL, '1bb21751e3de4c76a8fd926b28535cdd', 0, NULL, 1795988492513);
INSERT INTO public.messages VALUES (10, '*', 'message', 'picture', '[{"_placeholder":true,"num":0},"a dot"]', '\x92a091c4030102ff', 'DfOKW9f7iifRn_B9-XZZ-', NULL, '098d039bcdc348b6a358ba77bb7eee5d', 1, NULL, 1795988492534);
INSERT INTO public.messages VALUES (11, '*', 'message', NULL, '{"a":1}', NULL, NULL, NULL, '82cc39c00ff6423da993632d662e2d6b', 0, NULL, 1795988492546);
INSERT INTO public.messages VALUES (12, 'c/news', 'message', NULL, '{"message":"hello 2"}', NULL, NULL, NULL, '8dbe24f08c0f43ce8d8c85575e8d66d1', 0, NULL, 1795988492549);
INSERT INTO public.messages VALUES (13, 'sys/hub', 'control', 'setting', '{}', NULL, NULL, NULL, '858a6b8678fb45fb9e53ad2af6643313', 0, 1795992092552, 1795988492552);
INSERT INTO public.messages VALUES (14, 'sys/hub', 'control', 'setting', '{}', NULL, NULL, NULL, '448863912ec04ab896103f7df5aba3da', 0, 1795992092588, 1795988492588);
INSERT INTO public.messages VALUES (19, 'r/1', 'video', 'participant-joined', '{"type":"participant-joined","roomId":"team","participant":{"id":1,"clientId":"atfZhUOYGTgWexsOCiK5T","connectionId":"oYjkvMDxihxM","userId":null,"displayName":"Ada","isHost":false,"status":"connected","joinedAt":"2026-11-29T21:42:32.227Z","handAt":null,"audio":false,"video":false,"screen":false,"hand":false,"muted":false,"cameraOff":false}}', NULL, NULL, 'atfZhUOYGTgWexsOCiK5T', 'c33a6749750f45d5827a52e4c9d62a35', 0, NULL, 1795988552229);
INSERT INTO public.messages VALUES (21, 'r/1', 'video', 'participant-joined', '{"type":"participant-joined","roomId":"team","participant":{"id":2,"clientId":"QRHpPzmiBR-NOBvN2as2u","connectionId":"VmIsm-I00mtR","userId":null,"displayName":"Ben","isHost":false,"status":"connected","joinedAt":"2026-11-29T21:42:32.236Z","handAt":null,"audio":false,"video":false,"screen":false,"hand":false,"muted":false,"cameraOff":false}}', NULL, NULL, 'QRHpPzmiBR-NOBvN2as2u', '4169b6bf36a8462788127eee27dd63c4', 0, NULL, 1795988552239);
INSERT INTO public.messages VALUES (23, 'r/1', 'video', 'participant-left', '{"type":"participant-left","roomId":"team","connectionId":"VmIsm-I00mtR","reason":"removed","participantId":2,"clientId":"QRHpPzmiBR-NOBvN2as2u","userId":null,"displayName":"Ben"}', NULL, NULL, 'QRHpPzmiBR-NOBvN2as2u', 'd4f238258a1f474789b69dccf13fd619', 0, NULL, 1795988552250);
INSERT INTO public.meta VALUES ('schema_version', '3');
INSERT INTO public.meta VALUES ('epoch', 'df132e3c');
INSERT INTO public.meta VALUES ('timeline', '00000001');
INSERT INTO public.meta VALUES ('boot', '5f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f');
INSERT INTO public.meta VALUES ('durability', 'full');
INSERT INTO public.meta VALUES ('clean', '1');
INSERT INTO public.room_bans VALUES (1, 'client:QRHpPzmiBR-NOBvN2as2u');
INSERT INTO public.server_settings VALUES ('max_connections', '1000', NULL, 1795988492551);
INSERT INTO public.server_settings VALUES ('x-color', '"blue"', NULL, 1795988492584);
INSERT INTO public.socket_sessions VALUES ('e695c04ec3f478514c9c7e1f504d7ab7831cb4c2663fd75827f0a8960b7f445a', '/', 'Pd7rkH4_nc4Ff_0iFUqyW', 'admin-token', '{"rooms":[],"channels":["*","c/news"],"data":{}}', 'df132e3c-26', 'one-abc123', 1795988612325);
INSERT INTO public.stats_minutes VALUES (1795988520000, 'one-abc123', '{"activeConnections":0,"messagesSent":12,"deliveries":1,"bytesSent":827,"cpuPercent":0.6,"memoryBytes":71786496,"messagesPerSecond":0.2,"deliveriesPerSecond":0.0,"publishLatencyMs":{"p50":1.36,"p99":4.18},"videoParticipants":0,"activeVideoRooms":0,"transports":{}}');
INSERT INTO public.stats_minutes VALUES (1795988580000, 'one-abc123', '{"activeConnections":0,"messagesSent":12,"deliveries":1,"bytesSent":1201,"cpuPercent":1.2,"memoryBytes":49680384,"messagesPerSecond":0.0,"deliveriesPerSecond":0.0,"publishLatencyMs":{"p50":1.36,"p99":4.18},"videoParticipants":1,"activeVideoRooms":1,"transports":{}}');
INSERT INTO public.topics VALUES ('c/weather', 8, 0);
INSERT INTO public.topics VALUES ('u/fyCvPamqjfrcNeyCX_TLE', 9, 0);
INSERT INTO public.topics VALUES ('*', 11, 0);
INSERT INTO public.topics VALUES ('c/news', 12, 4);
INSERT INTO public.topics VALUES ('c/old', 3, 3);
INSERT INTO public.topics VALUES ('u/QRHpPzmiBR-NOBvN2as2u', 22, 0);
INSERT INTO public.topics VALUES ('r/1', 23, 0);
INSERT INTO public.topics VALUES ('sys/hub', 26, 0);
INSERT INTO public.users VALUES (1, 'ada', 'ada', 'scrypt$2363af6a5f01638903a50cd7ee379908$b57d169a02e2bba28d43f7f962ef60300a076c3c0b5c05ec481798263414035b', 'admin', 1795988492411);
INSERT INTO public.video_participants VALUES (1, 1, 'atfZhUOYGTgWexsOCiK5T', 'oYjkvMDxihxM', '', 'null', 'Ada', 0, 'connected', '{"audio":false,"video":false,"screen":false,"hand":false,"muted":false,"cameraOff":false,"handAt":null}', 'one-abc123', 1795988609144, 0, 1795988552227);
INSERT INTO public.video_rooms VALUES (1, 'team', 'Team', 'Every day at nine', 'null', '', 'admin-token', 0, 10, NULL, 0, 0, 0, 1795988552218, NULL, NULL);
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

CREATE INDEX access_tokens_user_id ON public.access_tokens USING btree (user_id);

CREATE INDEX connections_client_id ON public.connections USING btree (client_id);

CREATE INDEX event_logs_timestamp ON public.event_logs USING btree ("timestamp");

CREATE INDEX idempotency_keys_created_at ON public.idempotency_keys USING btree (created_at);

CREATE INDEX messages_expires_at ON public.messages USING btree (expires_at) WHERE (expires_at IS NOT NULL);

CREATE INDEX messages_topic_id ON public.messages USING btree (topic, id);

CREATE INDEX socket_sessions_left_at ON public.socket_sessions USING btree (left_at);

CREATE INDEX topics_last_id ON public.topics USING btree (last_id);

CREATE INDEX video_participants_client ON public.video_participants USING btree (client_id);

CREATE UNIQUE INDEX video_participants_room ON public.video_participants USING btree (room_id, client_id);

CREATE UNIQUE INDEX video_rooms_active ON public.video_rooms USING btree (room_id) WHERE (ended_at IS NULL);
