/* SPDX-License-Identifier: MIT
 * docs/WIRE.md against the library: the bytes of each block marked ```hex NAME there are what is really sent and saved,
 * and are understood when they come from somebody else, of either byte order.
 *
 * A line of a block is bytes in hexadecimal, and after two spaces words; where the words say "f32, sender's order" (or
 * f64) those numbers are turned on a big-endian machine. The document must be in docs/ of the current directory.
 *
 *     build/test/test_wire_doc rewrite      # puts the library's bytes into the document, line by line */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#define DSGD_AAU_IMPLEMENTATION
#include "../dsgd_aau.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
#define SADDLE_IMPLEMENTATION
#include "../saddle.h"
#include "transports/weft_link.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define DOCUMENT "docs/WIRE.md"
enum { BLOCKS = 64, MOST = 512, MAIL = 128, POLLS = 10000 };

/* What is also called where no test runs. */
#define MUST(holds)                                                                                                    \
    do {                                                                                                               \
        if (!(holds)) fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #holds), abort();               \
    } while (0)

/* ---- Two workers' post: what one sends is kept, and read by the other ---- */

typedef struct letter {
    uint32_t from, tag;
    size_t bytes;
    int taken;
    size_t after; /* of a worker that is the document: it is sent once the other has sent so many */
    unsigned char data[MOST];
} letter;

typedef struct post {
    uint32_t rank; /* whose end this is */
} post;

static letter mail[MAIL];
static size_t letters, sent[2];
static post end_[2] = {{0}, {1}};
static weft_transport net[2];
static uint64_t now_ns;

static weft_status post_send(void *ctx, uint32_t peer, uint32_t tag, const void *data, size_t bytes, weft_request *q) {
    letter *l = &mail[letters];
    (void)peer;
    (void)q;
    if (letters == MAIL || bytes > MOST) return WEFT_ERR_CAPACITY;
    letters++;
    memset(l, 0, sizeof *l);
    l->from = ((const post *)ctx)->rank;
    sent[l->from]++;
    l->tag = tag;
    l->bytes = bytes;
    if (bytes) memcpy(l->data, data, bytes);
    return WEFT_OK;
}

static weft_status post_recv(void *ctx, uint32_t peer, uint32_t tag, void *data, size_t capacity, weft_request *q) {
    (void)ctx;
    (void)peer;
    q->word[0] = 1;
    q->word[1] = (uintptr_t)data;
    q->word[2] = capacity;
    q->word[3] = tag;
    return WEFT_OK;
}

static weft_status post_test(void *ctx, weft_request *q) {
    size_t i;
    if (!q->word[0]) return WEFT_OK; /* a send */
    for (i = 0; i < letters; i++) {
        letter *l = &mail[i];
        if (l->taken || l->from == ((const post *)ctx)->rank || l->tag != q->word[3]) continue;
        if (sent[1 - l->from] < l->after) break;
        l->taken = 1;
        q->bytes = l->bytes;
        if (l->bytes > q->word[2]) return WEFT_ERR_TRUNCATED;
        if (l->bytes) memcpy((void *)q->word[1], l->data, l->bytes);
        return WEFT_OK;
    }
    return WEFT_AGAIN;
}

static void post_cancel(void *ctx, weft_request *q) {
    (void)ctx;
    (void)q;
}

static uint64_t post_now(void *ctx) {
    (void)ctx;
    return now_ns;
}

static void post_open(void) {
    uint32_t r;
    letters = sent[0] = sent[1] = 0;
    now_ns = 0;
    for (r = 0; r < 2; r++)
        net[r] = weft_transport_make(&end_[r], r, 2, post_send, post_recv, post_test, post_cancel, post_now);
}

/* ---- What is written down ---- */

typedef struct block {
    char name[32];
    uint32_t from; /* rank of the sender */
    size_t bytes;
    unsigned char data[MOST];
    unsigned char each[MOST]; /* in the document: where a number in the sender's order begins, its bytes; else 0 */
} block;

static block made[BLOCKS];
static size_t blocks;

static void write_down(const char *name, uint32_t from, const void *data, size_t bytes) {
    block *b = &made[blocks];
    MUST(blocks < BLOCKS);
    MUST(bytes <= MOST);
    blocks++;
    snprintf(b->name, sizeof b->name, "%s", name);
    b->from = from;
    b->bytes = bytes;
    memcpy(b->data, data, bytes);
}

/* ---- Scenes: one step of two workers by each algorithm ---- */

#define PLAIN ""
#define FLOATS "f32"

typedef struct scene {
    const char *name;
    void (*open)(uint32_t rank);
    weft_status (*drive)(uint32_t rank); /* WEFT_OK: the step is over */
    size_t (*save)(uint32_t rank, void *blob, size_t capacity);
    weft_status (*load)(uint32_t rank, const void *blob, size_t bytes);
    void (*close)(uint32_t rank);
    const char *blob; /* its name in the document; NULL: left out there */
    /* Of all messages in order: the name in the document; PLAIN and FLOATS are left out there, the first has no numbers
     * in the sender's order behind its header, the second has nothing else. */
    const char *message[20];
} scene;

enum { FEW = 3, MANY = 128 };
static float x[2][MANY];
static weft_tensor tensor[2];
static void *memory[2];
static int phase[2];

static weft_tensors start_with(uint32_t rank, size_t count) {
    weft_tensors t;
    size_t i;
    for (i = 0; i < count; i++) x[rank][i] = (float)(i + 1);
    tensor[rank].data = x[rank];
    tensor[rank].count = count;
    tensor[rank].dtype = WEFT_F32;
    t.tensor = &tensor[rank];
    t.count = 1;
    phase[rank] = 0;
    return t;
}

/* The trainer's own step: worker 0 goes up, worker 1 goes down. */
static void train(uint32_t rank) {
    size_t i;
    for (i = 0; i < tensor[rank].count; i++) x[rank][i] += rank ? -0.5f : 0.5f;
}

static void *room(uint32_t rank, size_t bytes) {
    MUST(bytes > 0);
    memory[rank] = malloc(bytes);
    MUST(memory[rank] != NULL);
    return memory[rank];
}

/* What is alike for all of them. */
#define VERBS(X, object)                                                                                               \
    static size_t save_##X(uint32_t rank, void *blob, size_t capacity) {                                               \
        size_t bytes = 0;                                                                                              \
        MUST(X##_save(object[rank], blob, capacity, &bytes) == WEFT_OK);                                               \
        return bytes;                                                                                                  \
    }                                                                                                                  \
    static weft_status load_##X(uint32_t rank, const void *blob, size_t bytes) {                                       \
        return X##_load(object[rank], blob, bytes);                                                                    \
    }                                                                                                                  \
    static void close_##X(uint32_t rank) {                                                                             \
        X##_close(object[rank]);                                                                                       \
        free(memory[rank]);                                                                                            \
    }

static grawa *G[2];
VERBS(grawa, G)

static void open_grawa(uint32_t rank) {
    grawa_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = start_with(rank, FEW);
    d.transport = &net[rank];
    d.period_steps = 1;
    bytes = grawa_memory(&d, NULL);
    MUST(grawa_init(&G[rank], &d, room(rank, bytes), bytes) == WEFT_OK);
    MUST(grawa_start(G[rank]) >= 0);
}

static weft_status drive_grawa(uint32_t rank) {
    static float gradient[2][FEW] = {{3, 4, 0}, {0, 1, 0}};
    weft_status s = grawa_poll(G[rank]);
    weft_tensor t;
    weft_tensors grads;
    if (s != WEFT_OK || phase[rank]) return s;
    phase[rank] = 1;
    train(rank);
    t = tensor[rank];
    t.data = gradient[rank];
    grads.tensor = &t;
    grads.count = 1;
    return grawa_step(G[rank], &grads);
}

static subspace *S[2];
VERBS(subspace, S)

static void open_subspace(uint32_t rank) {
    subspace_desc d;
    size_t bytes, i;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.gradients = start_with(rank, MANY);
    d.transport = &net[rank];
    d.momentum = 0.5;
    for (i = 0; i < MANY; i++) x[rank][i] = rank ? -1.0f : 2.0f + (float)(i % 2);
    bytes = subspace_memory(&d, NULL);
    MUST(subspace_init(&S[rank], &d, room(rank, bytes), bytes) == WEFT_OK);
}

static weft_status drive_subspace(uint32_t rank) {
    if (phase[rank]) return subspace_poll(S[rank]);
    phase[rank] = 1;
    return subspace_submit(S[rank], 0, 1);
}

static hpsgd *H[2];
VERBS(hpsgd, H)

static void open_hpsgd(uint32_t rank) {
    hpsgd_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params = start_with(rank, FEW);
    d.transport = &net[rank];
    bytes = hpsgd_memory(&d, NULL);
    MUST(hpsgd_init(&H[rank], &d, room(rank, bytes), bytes) == WEFT_OK);
    MUST(hpsgd_start(H[rank]) >= 0);
}

static weft_status drive_hpsgd(uint32_t rank) {
    weft_status s = hpsgd_poll(H[rank]);
    if (s != WEFT_OK || phase[rank] == 2) return s;
    if (phase[rank]++) return hpsgd_drain(H[rank]);
    train(rank);
    s = hpsgd_step(H[rank]);
    return s == WEFT_OK ? WEFT_AGAIN : s;
}

static unsigned char graph_memory[WEFT_GRAPH_BYTES(2, 1)];
static weft_graph graph;
static dsgd_aau *A[2];
VERBS(dsgd_aau, A)

static void open_dsgd_aau(uint32_t rank) {
    dsgd_aau_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    MUST(weft_graph_complete(&graph, 2, graph_memory, sizeof graph_memory) == WEFT_OK);
    d.struct_size = sizeof d;
    d.params = start_with(rank, FEW);
    d.transport = &net[rank];
    d.graph = &graph;
    bytes = dsgd_aau_memory(&d, NULL);
    MUST(dsgd_aau_init(&A[rank], &d, room(rank, bytes), bytes) == WEFT_OK);
    MUST(dsgd_aau_start(A[rank]) >= 0);
}

static weft_status drive_dsgd_aau(uint32_t rank) {
    weft_status s = dsgd_aau_poll(A[rank]);
    if (s != WEFT_OK || phase[rank]) return s;
    phase[rank] = 1;
    train(rank);
    return dsgd_aau_step(A[rank]);
}

static saddle *D[2];
VERBS(saddle, D)

static void open_saddle(uint32_t rank) {
    saddle_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    MUST(weft_graph_complete(&graph, 2, graph_memory, sizeof graph_memory) == WEFT_OK);
    d.struct_size = sizeof d;
    d.params = start_with(rank, FEW);
    d.transport = &net[rank];
    d.graph = &graph;
    d.rho = WEFT_ZERO;
    d.learning_rate = 0.5;
    d.codec = weft_codec_q8();
    bytes = saddle_memory(&d, NULL);
    MUST(saddle_init(&D[rank], &d, room(rank, bytes), bytes) == WEFT_OK);
}

static weft_status drive_saddle(uint32_t rank) {
    saddle_want w;
    weft_status s;
    if (phase[rank]) return saddle_poll(D[rank]);
    s = saddle_next(D[rank], &w);
    if (s == WEFT_WANT_GRADIENT) {
        size_t i;
        for (i = 0; i < FEW; i++) ((float *)w.into.tensor[0].data)[i] = rank ? 1.0f : -1.0f;
        return WEFT_AGAIN;
    }
    phase[rank] = s == WEFT_OK;
    return s;
}

static const scene scenes[] = {
    {"grawa",
     open_grawa,
     drive_grawa,
     save_grawa,
     load_grawa,
     close_grawa,
     NULL,
     {"grawa-hello", PLAIN, "grawa-norm", FLOATS, FLOATS, "grawa-model", "grawa-have", PLAIN}},
    {"subspace",
     open_subspace,
     drive_subspace,
     save_subspace,
     load_subspace,
     close_subspace,
     "subspace-blob",
     {PLAIN, PLAIN, PLAIN, PLAIN, "subspace-shard", FLOATS, PLAIN, FLOATS, PLAIN, "subspace-numbers", PLAIN, FLOATS,
      PLAIN, FLOATS, PLAIN, PLAIN}},
    {"hpsgd",
     open_hpsgd,
     drive_hpsgd,
     save_hpsgd,
     load_hpsgd,
     close_hpsgd,
     NULL,
     {PLAIN, PLAIN, "hpsgd-record", PLAIN, FLOATS, "hpsgd-change", PLAIN, PLAIN, PLAIN, PLAIN, FLOATS, FLOATS, PLAIN,
      PLAIN}},
    {"dsgd_aau",
     open_dsgd_aau,
     drive_dsgd_aau,
     save_dsgd_aau,
     load_dsgd_aau,
     close_dsgd_aau,
     NULL,
     {PLAIN, PLAIN, "dsgd_aau-hello", "dsgd_aau-ready", PLAIN, "dsgd_aau-propose", "dsgd_aau-accept", "dsgd_aau-state",
      "dsgd_aau-commit"}},
    {"saddle",
     open_saddle,
     drive_saddle,
     save_saddle,
     load_saddle,
     close_saddle,
     "saddle-blob",
     {PLAIN, PLAIN, "saddle-hello", "saddle-propose", "saddle-accept", PLAIN, PLAIN, "saddle-model", "saddle-round"}},
};
enum { SCENES = sizeof scenes / sizeof *scenes };

/* Lets them talk until both have their step behind them; with `alone`, worker 1 has only what is in the post. */
static void play(const scene *s, int alone) {
    weft_status is[2] = {WEFT_AGAIN, WEFT_AGAIN};
    uint32_t r;
    int i;
    if (alone) is[0] = WEFT_OK;
    for (r = (uint32_t)alone; r < 2; r++) s->open(r);
    for (i = 0; i < POLLS && (is[0] || is[1]); i++, now_ns += 1000)
        for (r = 0; r < 2; r++) {
            if (is[r] == WEFT_OK) continue;
            is[r] = s->drive(r);
            MUST(is[r] >= 0);
        }
    MUST(is[0] == WEFT_OK && is[1] == WEFT_OK);
}

static void play_and_write_down(const scene *s) {
    unsigned char blob[MOST];
    uint32_t r;
    size_t i;
    post_open();
    play(s, 0);
    for (i = 0; i < letters; i++) {
        const char *name = s->message[i];
        MUST(name != NULL);
        if (strcmp(name, PLAIN) && strcmp(name, FLOATS)) write_down(name, mail[i].from, mail[i].data, mail[i].bytes);
    }
    MUST(s->message[i] == NULL);
    if (s->blob) write_down(s->blob, 0, blob, s->save(0, blob, sizeof blob));
    for (r = 0; r < 2; r++) s->close(r);
}

/* ---- Codecs: one small tensor by each ---- */

static const float coded[4] = {1.0f, -0.5f, 0.25f, 0.0f};

typedef struct coding {
    const char *name;
    weft_codec codec;
} coding;

static const coding codings[] = {
    {"codec-identity", {WEFT_CODEC_IDENTITY, 0, 0, 0.0}},
    {"codec-bf16", {WEFT_CODEC_BF16, 0, 0, 0.0}},
    {"codec-f16", {WEFT_CODEC_F16, 0, 0, 0.0}},
    {"codec-q8", {WEFT_CODEC_Q8, 0, 0, 0.0}},
    {"codec-q4", {WEFT_CODEC_Q4, 0, 0, 0.0}},
    {"codec-qsgd", {WEFT_CODEC_QSGD, 4, 0, 0.0}},
    {"codec-topk", {WEFT_CODEC_TOPK, 0, 0, 0.5}},
    {"codec-sign", {WEFT_CODEC_SIGN, 0, 0, 0.0}},
};
enum { CODINGS = sizeof codings / sizeof *codings };

static size_t encode(const coding *c, unsigned char *message, size_t capacity) {
    weft_detail why = weft_detail_none();
    weft_codec_job j;
    size_t bytes = 0;
    memset(&j, 0, sizeof j);
    j.codec = &c->codec;
    j.dtype = WEFT_F32;
    j.data = coded;
    j.count = 4;
    j.key = weft_codec_key(1, 1, 0, 0);
    MUST(weft_codec_encode_tensor(weft_codec_kernels_select(WEFT_ISA_AUTO, 0), &j, message, capacity, &bytes, NULL,
                                  &why) == WEFT_OK);
    return bytes;
}

/* ---- Frames: a message of five bytes from end 0 to end 1 ---- */

static const char *const frame_name[] = {"frame-hello", "", "frame-answer", "",           "",
                                         "frame-room",  "", "frame-begin",  "frame-done", "frame-ack"};
enum { FRAMES = sizeof frame_name / sizeof *frame_name };

static weft_frames *F[2];
static weft_transport line[2];

static weft_status frame_send(void *ctx, uint32_t peer, const void *frame, size_t bytes) {
    (void)peer;
    return post_send(ctx, 0, 0, frame, bytes, NULL);
}

static void frames_open(uint32_t r) {
    weft_frames_desc d;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.rank = r;
    d.size = 2;
    d.largest_frame = 51;
    d.incarnation = r + 1;
    d.send = frame_send;
    d.now = post_now;
    d.ctx = &end_[r];
    bytes = weft_frames_memory(&d);
    F[r] = weft_frames_init(&d, room(r, bytes), bytes, &line[r]);
    MUST(F[r] != NULL);
}

static void frames_deliver(void) {
    size_t i;
    uint32_t r;
    for (r = 0; r < 2; r++) weft_frames_poll(F[r]);
    for (i = 0; i < letters; i++) {
        if (mail[i].taken) continue;
        mail[i].taken = 1;
        weft_frames_arrived(F[1 - mail[i].from], mail[i].from, mail[i].data, mail[i].bytes);
    }
}

static void frames_play(void) {
    static const char words[] = "weft!";
    char got[8] = "";
    weft_request out, in;
    weft_status s[2] = {WEFT_AGAIN, WEFT_AGAIN};
    uint32_t r;
    int i;
    post_open();
    for (r = 0; r < 2; r++) frames_open(r);
    for (i = 0; i < POLLS && !(weft_frames_is_up(F[0], 1) && weft_frames_is_up(F[1], 0)); i++) frames_deliver();
    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    MUST(weft_frames_recv(F[1], 0, 7, got, sizeof got, &in) == WEFT_OK);
    MUST(weft_frames_send(F[0], 1, 7, words, 5, &out) == WEFT_OK);
    for (i = 0; i < POLLS && (s[0] == WEFT_AGAIN || s[1] == WEFT_AGAIN); i++) {
        frames_deliver();
        if (s[0] == WEFT_AGAIN) s[0] = weft_frames_test(F[0], &out);
        if (s[1] == WEFT_AGAIN) s[1] = weft_frames_test(F[1], &in);
    }
    MUST(s[0] == WEFT_OK && s[1] == WEFT_OK && in.bytes == 5 && !memcmp(got, words, 5));
}

static void frames_close(void) {
    uint32_t r;
    for (r = 0; r < 2; r++) free(memory[r]);
}

typedef struct serial {
    unsigned char data[MOST];
    size_t bytes;
} serial;

static void serial_put(void *ctx, unsigned char byte) {
    serial *s = (serial *)ctx;
    MUST(s->bytes < MOST);
    s->data[s->bytes++] = byte;
}

/* ---- All that the document must show ---- */

static void make_all(void) {
    serial slip;
    unsigned char message[MOST];
    size_t i;
    for (i = 0; i < SCENES; i++) play_and_write_down(&scenes[i]);
    for (i = 0; i < CODINGS; i++) {
        const size_t bytes = encode(&codings[i], message, sizeof message);
        write_down(codings[i].name, 0, message, bytes);
    }
    frames_play();
    MUST(letters == FRAMES);
    for (i = 0; i < FRAMES; i++)
        if (*frame_name[i]) write_down(frame_name[i], mail[i].from, mail[i].data, mail[i].bytes);
    slip.bytes = 0;
    weft_slip_send(mail[7].data, mail[7].bytes, serial_put, &slip);
    write_down("frame-slip", 0, slip.data, slip.bytes);
    frames_close();
}

/* ---- The document ---- */

static block doc[BLOCKS];
static size_t doc_blocks;
static char doc_fault[256]; /* why it could not be read; empty: it could */

static int digit(char c) {
    const char *all = "0123456789abcdef", *at = c ? strchr(all, c) : NULL;
    return at ? (int)(at - all) : -1;
}

/* The bytes at the beginning of a line, and where its words begin. -1: there is something else. */
static int line_bytes(const char *text, unsigned char *bytes, int most, const char **words) {
    const char *p = text;
    int n = 0;
    while (digit(p[0]) >= 0 && digit(p[1]) >= 0 && n < most) {
        bytes[n++] = (unsigned char)(digit(p[0]) << 4 | digit(p[1]));
        p += 2;
        if (p[0] != ' ' || p[1] == ' ') break;
        p++;
    }
    *words = p;
    return n && (*p == '\n' || *p == '\r' || (p[0] == ' ' && p[1] == ' ')) ? n : -1;
}

/* Goes through the document; with `out`, copies it there with the library's bytes in the place of its own. */
static void read_document(FILE *in, FILE *out) {
    char text[512];
    const block *fill = NULL;
    block *b = NULL;
    int number = 0;
    size_t i;
    while (fgets(text, sizeof text, in)) {
        unsigned char bytes[32];
        const char *words;
        int n, each;
        number++;
        if (!b && strncmp(text, "```hex ", 7) == 0) {
            MUST(doc_blocks < BLOCKS);
            b = &doc[doc_blocks++];
            memset(b, 0, sizeof *b);
            sscanf(text + 7, "%31s", b->name);
            for (fill = NULL, i = 0; i < blocks; i++)
                if (!strcmp(made[i].name, b->name)) fill = &made[i];
            if (fill) b->from = fill->from;
        } else if (b && strncmp(text, "```", 3) == 0) {
            if (out && fill && fill->bytes != b->bytes)
                fprintf(stderr, "%s: %zu bytes in the document, %zu in fact\n", b->name, b->bytes, fill->bytes);
            b = NULL;
        } else if (b) {
            n = line_bytes(text, bytes, (int)sizeof bytes, &words);
            if (n < 0 || b->bytes + (size_t)n > MOST) {
                snprintf(doc_fault, sizeof doc_fault, "%s, line %d: not bytes in hexadecimal, two spaces and words",
                         DOCUMENT, number);
                return;
            }
            each = !strstr(words, "sender's order") ? 0 : strstr(words, "f64") ? 8 : strstr(words, "f32") ? 4 : -1;
            if (each < 0 || (each && n % each)) {
                snprintf(doc_fault, sizeof doc_fault, "%s, line %d: f32 or f64, whole numbers", DOCUMENT, number);
                return;
            }
            for (i = 0; i < (size_t)n; i++) {
                if (out && fill && b->bytes + i < fill->bytes) bytes[i] = fill->data[b->bytes + i];
                if (out) fprintf(out, "%s%02x", i ? " " : "", bytes[i]);
                b->data[b->bytes + i] = bytes[i];
                b->each[b->bytes + i] = (unsigned char)(each && i % (size_t)each == 0 ? each : 0);
            }
            b->bytes += (size_t)n;
            if (out) fputs(words, out);
            continue;
        }
        if (out) fputs(text, out);
    }
    if (b) snprintf(doc_fault, sizeof doc_fault, "%s: block %s has no end", DOCUMENT, b->name);
}

static const block *find(const block *in, size_t count, const char *name) {
    size_t i;
    for (i = 0; i < count; i++)
        if (!strcmp(in[i].name, name)) return &in[i];
    return NULL;
}

/* The same message of a machine of the other byte order: its numbers, what its header says of the order, and the
 * checksum. */
static void turn(const unsigned char *each, uint32_t from, unsigned char *p, size_t bytes) {
    size_t i;
    for (i = 0; i < bytes; i++)
        if (each[i]) weft_swap(p + i, each[i], each[i]);
    if (bytes >= WEFT_HEADER_BYTES && !memcmp(p, "weft", 4)) {
        p[5] ^= 1u;
        weft_put32(p + 60, 0);
        weft_put32(p + 60, weft_crc32c(0, p, bytes));
    } else if (bytes >= WEFT_LETTER_BYTES && p[0] == 'w' && p[1] == 'l') {
        p[2] ^= 128u;
        weft_put32(p + 16, weft_letter_crc(p, bytes, from));
    }
}

/* ---- Tests ---- */

START_TEST(document_can_be_read) {
    size_t i;
    ck_assert_msg(!doc_fault[0], "%s", doc_fault);
    for (i = 0; i < blocks; i++)
        ck_assert_msg(find(doc, doc_blocks, made[i].name) != NULL, "%s has no block %s", DOCUMENT, made[i].name);
    for (i = 0; i < doc_blocks; i++) {
        ck_assert_msg(find(made, blocks, doc[i].name) != NULL, "%s: nobody sends a %s", DOCUMENT, doc[i].name);
        ck_assert_msg(find(doc, i, doc[i].name) == NULL, "%s: a second block %s", DOCUMENT, doc[i].name);
    }
}
END_TEST

START_TEST(bytes_are_those_of_the_library) {
    const block *is = &made[_i], *written = find(doc, doc_blocks, is->name);
    unsigned char here[MOST];
    size_t i;
    ck_assert_msg(written != NULL, "%s has no block %s", DOCUMENT, is->name);
    memcpy(here, written->data, sizeof here);
    if (weft_big_endian()) turn(written->each, is->from, here, written->bytes);
    for (i = 0; i < is->bytes && i < written->bytes; i++)
        ck_assert_msg(here[i] == is->data[i], "%s, byte %u: %02x in the document, %02x in fact", is->name, (unsigned)i,
                      here[i], is->data[i]);
    ck_assert_msg(written->bytes == is->bytes, "%s: %u bytes in the document, %u in fact", is->name,
                  (unsigned)written->bytes, (unsigned)is->bytes);
}
END_TEST

/* Worker 1 takes its step with a worker 0 that is the document (and what was sent where it leaves something out): on a
 * machine of this byte order, and of the other one. */
START_TEST(a_worker_understands_the_document) {
    static letter was[MAIL];
    static unsigned char floats[MOST];
    const scene *s = &scenes[_i / 2];
    const int other = _i % 2;
    float result[MANY];
    size_t i, k, count, documented = 0, replies = 0;
    uint32_t r;
    post_open();
    play(s, 0);
    memcpy(result, x[1], sizeof result);
    count = letters;
    memcpy(was, mail, sizeof was);
    for (r = 0; r < 2; r++) s->close(r);
    post_open();
    for (i = 0; i < count; i++) {
        const block *b = find(doc, doc_blocks, s->message[i]);
        const size_t head = was[i].tag ? 0 : WEFT_HEADER_BYTES;
        letter *l = &mail[letters];
        if (was[i].from) {
            replies++;
            continue;
        }
        *l = was[i];
        l->taken = 0;
        l->after = replies;
        letters++;
        memset(floats, 0, sizeof floats);
        for (k = head; !strcmp(s->message[i], FLOATS) && k < l->bytes; k += 4) floats[k] = 4;
        if (b) {
            memcpy(l->data, b->data, b->bytes);
            l->bytes = b->bytes;
            documented++;
            if (other != (int)weft_big_endian()) turn(b->each, 0, l->data, l->bytes);
        } else if (other) {
            turn(floats, 0, l->data, l->bytes);
        }
    }
    ck_assert_uint_gt(documented, 0);
    play(s, 1);
    ck_assert_msg(!memcmp(result, x[1], sizeof result), "%s: %g in place of %g", s->name, (double)x[1][0],
                  (double)result[0]);
    s->close(1);
}
END_TEST

/* Announced data is the tensors' memory itself. */
START_TEST(bulk_data_is_raw) {
    const scene *s = &scenes[1];
    float share[MANY / 2];
    uint32_t r;
    size_t i;
    for (i = 0; i < MANY / 2; i++) share[i] = 2.0f + (float)(i % 2); /* the second half of worker 0's gradient */
    post_open();
    play(s, 0);
    ck_assert_uint_eq(mail[5].tag, 1);
    ck_assert_uint_eq(mail[5].bytes, sizeof share);
    ck_assert(!memcmp(mail[5].data, share, sizeof share));
    for (r = 0; r < 2; r++) s->close(r);
}
END_TEST

START_TEST(blobs_can_be_loaded) {
    const scene *s = &scenes[_i];
    const block *b = s->blob ? find(doc, doc_blocks, s->blob) : NULL;
    unsigned char again[MOST];
    uint32_t r;
    if (!s->blob) return;
    ck_assert_ptr_nonnull(b);
    post_open();
    for (r = 0; r < 2; r++) s->open(r);
    ck_assert_int_eq(s->load(0, b->data, b->bytes), WEFT_OK);
    ck_assert_uint_eq(s->save(0, again, sizeof again), b->bytes);
    ck_assert(!memcmp(again, b->data, b->bytes));
    ck_assert_int_lt(s->load(1, b->data, b->bytes), 0); /* it is worker 0's */
    for (r = 0; r < 2; r++) s->close(r);
}
END_TEST

/* What a message of a codec stands for, as the document has it. */
START_TEST(codecs_can_be_read) {
    static const float stands_for[CODINGS][4] = {{1.0f, -0.5f, 0.25f, 0.0f},
                                                 {1.0f, -0.5f, 0.25f, 0.0f},
                                                 {1.0f, -0.5f, 0.25f, 0.0f},
                                                 {0, 0, 0, 0},
                                                 {0, 0, 0, 0},
                                                 {0, 0, 0, 0},
                                                 {1.0f, -0.5f, 0.0f, 0.0f},
                                                 {0.4375f, -0.4375f, 0.4375f, 0.0f}};
    const block *b = find(doc, doc_blocks, codings[_i].name);
    weft_detail why = weft_detail_none();
    float out[4] = {9, 9, 9, 9};
    int i;
    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(weft_codec_decode(weft_codec_kernels_select(WEFT_ISA_AUTO, 0), &codings[_i].codec, WEFT_F32, 4, 0,
                                       4, b->data, b->bytes, out, &why),
                     WEFT_OK);
    for (i = 0; i < 4; i++) {
        /* the steps of what rounds at random: 1 / 127, 1 / 7, and |t| / 15 */
        const double step = _i == 3 ? 0.00788 : _i == 4 ? 0.14287 : _i == 5 ? 0.07638 : 0;
        const double want = (double)(step ? coded[i] : stands_for[_i][i]);
        ck_assert_msg(fabs((double)out[i] - want) <= step, "%s: %g in place of %g", codings[_i].name, (double)out[i],
                      want);
    }
}
END_TEST

/* The frames of the document, from a worker that is the document, to one that is not. */
START_TEST(frames_are_understood) {
    static const char *const order[] = {"frame-hello", "frame-answer", "frame-begin"};
    const block *slip = find(doc, doc_blocks, "frame-slip"), *begin = find(doc, doc_blocks, "frame-begin");
    unsigned char frame[MOST];
    weft_request in;
    weft_slip s;
    char got[8] = "";
    size_t i, n = 0;
    post_open();
    frames_open(1);
    for (i = 0; i < 3; i++) {
        const block *b = find(doc, doc_blocks, order[i]);
        ck_assert_ptr_nonnull(b);
        weft_frames_poll(F[1]);
        if (i == 2) {
            ck_assert(weft_frames_is_up(F[1], 0));
            memset(&in, 0, sizeof in);
            ck_assert_int_eq(weft_frames_recv(F[1], 0, 7, got, sizeof got, &in), WEFT_OK);
        }
        weft_frames_arrived(F[1], 0, b->data, b->bytes);
    }
    ck_assert_int_eq(weft_frames_test(F[1], &in), WEFT_OK);
    ck_assert_uint_eq(in.bytes, 5);
    ck_assert(!memcmp(got, "weft!", 5));
    ck_assert_ptr_nonnull(slip);
    memset(&s, 0, sizeof s);
    s.frame = frame;
    s.room = sizeof frame;
    for (i = 0; i < slip->bytes && !n; i++) n = weft_slip_byte(&s, slip->data[i]);
    ck_assert_uint_eq(i, slip->bytes);
    ck_assert_uint_eq(n, begin->bytes);
    ck_assert(!memcmp(frame, begin->data, n));
    free(memory[1]);
}
END_TEST

static int rewrite(void) {
    FILE *in = fopen(DOCUMENT, "r"), *out = fopen(DOCUMENT ".new", "w");
    if (!in || !out) return fprintf(stderr, "%s cannot be rewritten\n", DOCUMENT), 1;
    if (weft_big_endian()) return fprintf(stderr, "the document shows what little-endian machines send\n"), 1;
    read_document(in, out);
    fclose(in);
    if (fclose(out) || doc_fault[0]) return fprintf(stderr, "%s\n", doc_fault), 1;
    return rename(DOCUMENT ".new", DOCUMENT) != 0;
}

int main(int argc, char **argv) {
    Suite *s = suite_create("wire_doc");
    TCase *t = tcase_create("document");
    FILE *in;
    SRunner *r;
    int failed;
    make_all();
    if (argc > 1) return strcmp(argv[1], "rewrite") ? 2 : rewrite();
    in = fopen(DOCUMENT, "r");
    if (in) {
        read_document(in, NULL);
        fclose(in);
    } else {
        snprintf(doc_fault, sizeof doc_fault, "there is no %s here: run this from the root of the repository",
                 DOCUMENT);
    }
    tcase_add_test(t, document_can_be_read);
    tcase_add_loop_test(t, bytes_are_those_of_the_library, 0, (int)blocks);
    tcase_add_loop_test(t, a_worker_understands_the_document, 0, 2 * SCENES);
    tcase_add_test(t, bulk_data_is_raw);
    tcase_add_loop_test(t, blobs_can_be_loaded, 0, SCENES);
    tcase_add_loop_test(t, codecs_can_be_read, 0, CODINGS);
    tcase_add_test(t, frames_are_understood);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
