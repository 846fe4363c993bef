/* SPDX-License-Identifier: MIT */
#include "options.h"

#include "util.h"
#include "values.h"
#include "weft_codec_name.h"
#include "weft_topology.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const ALGORITHM_NAME[ALGORITHMS] = {"single",  "mean",  "subspace", "adasum", "mgrawa",   "lgrawa",
                                                "uniform", "easgd", "lsgd",     "hpsgd",  "dsgd_aau", "qsaddle",
                                                "nsaddle", "qgm",   "ngc",      "dpsgd",  "dsgdm"};
const char *const MODEL_NAME[] = {"softmax", "mlp", "cnn"};
const char *const OPTIMISER_NAME[] = {"sgd", "adam"};

#ifdef WEFT_CUDA
/* Rules that have tensors of their own in host memory; and what is there on a GPU. */
static const bool HOST_ONLY[ALGORITHMS] = {
    [ALGORITHM_EASGD] = true, [ALGORITHM_LSGD] = true, [ALGORITHM_ADASUM] = true};
static const bool MODEL_ON_GPU[] = {[MODEL_SOFTMAX] = true, [MODEL_MLP] = true, [MODEL_CNN] = false};
#endif

/* --lr if it is not given */
static const double RATE[] = {0.02, 0.001};

/* (In parts: C promises no longer strings.) */
static const char USAGE[] =
    "usage: train [options]\n"
    "Trains an image classifier with several workers (threads) that learn together, each algorithm with\n"
    "the same number of samples, and compares them.\n"
    "\n"
    "  --data DIR            Fashion-MNIST or MNIST (IDX files, also .gz) or CIFAR-10 (binary version);\n"
    "                        without it: glyphs that the program draws itself\n"
    "  --algorithm NAME,...  single, mean, subspace, adasum, mgrawa, lgrawa, uniform, easgd, lsgd, hpsgd,\n"
    "                        dsgd_aau, qsaddle, nsaddle, qgm, ngc, dpsgd, dsgdm, or all\n"
    "                        (default); mean, subspace (AdaCons) and adasum put gradients together at every step;\n"
    "                        hpsgd trains on while the changes of before are summed up;\n"
    "                        dsgd_aau averages after every step with the neighbours that are ready, and waits for\n"
    "                        nobody slow;\n"
    "                        qsaddle and nsaddle (saddle.h) average with all neighbours at every step, and look for\n"
    "                        flat minima: 2 gradients a step, nsaddle 2 more at each neighbour's model; qgm and ngc:\n"
    "                        the same without the climb; dpsgd: without momentum; dsgdm: with local momentum. These\n"
    "                        are optimisers (sgd with Nesterov's momentum)\n"
    "  --model NAME          softmax, mlp (default) or cnn\n"
    "  --hidden N            units of the mlp (128)\n"
    "  --workers N           (4)\n"
    "  --epochs N            passes over the training set, all workers together (10)\n"
    "  --seconds S           train for this long instead, at a constant learning rate\n"
    "  --batch N             samples a step and worker (32)\n"
    "  --optimiser NAME      sgd (default) or adam\n"
    "  --lr X                learning rate (sgd: 0.02, adam: 0.001), falling linearly to 0\n"
    "  --momentum X          (0.9)\n"
    "  --weight-decay X      (0.0001)\n"
    "  --alpha X             how unequal the workers' labels are: Dirichlet parameter; 0 (default): alike\n"
    "  --seed N              (1)\n"
    "  --period N            local steps between two rounds (32; an eighth of it for easgd and lsgd)\n"
    "  --pull X              how far a round of grawa pulls towards the center, 0 to 1 (0.5)\n"
    "  --subspace-momentum X average of subspace's weights over steps, 0 (none) to below 1 (0.99)\n"
    "  --trigger NAME        when grawa's rounds are. fixed: after `period` steps of each worker (default);\n"
    "                        total: after workers x period steps of all together: the fast do more\n"
    "  --beta X              hpsgd: how much of its own change that is still under way a worker goes on with,\n"
    "                        0 (as published) to 1 (0.5)\n"
    "  --max-steps N         hpsgd: local steps without a result, at most (16)\n";
static const char USAGE_MORE[] =
    "  --device NAME         where models are, and are computed: cpu (default), or cuda, on a GPU, if the program was\n"
    "                        built by make train-cuda: all but easgd, lsgd and adasum, with softmax or mlp. Threads\n"
    "                        share one GPU; over tcp and mpi rank R has the R-th of its machine, counted around\n"
    "  --topology NAME       who talks to whom in dsgd_aau, and from qsaddle to dsgdm: ring, chain, star, complete,\n"
    "                        torus[:RxC], hypercube, exponential (default), er:P (random, each edge with probability\n"
    "                        P), small:DEGREE:P\n"
    "  --codec NAME          from qsaddle to dsgdm: how messages are made smaller: none (default), bf16, f16, q8, q4,\n"
    "                        qsgd:BITS[:biased], topk:KEPT (the fraction that is sent), sign\n"
    "  --rho X               qsaddle, nsaddle: how far they climb before they differentiate (0.05)\n"
    "  --gamma X             from qsaddle to dsgdm: how far to go towards the neighbours' average, above 0 to 1 (1;\n"
    "                        less for rough codecs: topk:0.3 0.7, topk:0.1 0.1, sign 0.1)\n"
    "  --patience S          dsgd_aau: who has waited so many seconds for a neighbour goes on alone; 0: no such bound\n"
    "                        (default; then the others wait for a straggler once in a while, and meet it)\n"
    "  --slow RANK:FACTOR    this worker's steps take FACTOR times as long (may be repeated)\n"
    "  --transport NAME      threads (default): workers are threads of this program; tcp: processes, see --launch and\n"
    "                        --peers; mpi: the processes that mpirun starts\n"
    "  --launch N            tcp: starts N workers on this machine\n"
    "  --peers FILE          tcp: a line host:port for each worker; WEFT_RANK in the environment says which one this\n"
    "                        is. Without FILE: WEFT_PEERS in the environment\n"
    "  --tls DIR             tcp: encrypted, and only among workers who have a certificate: DIR holds authority.pem,\n"
    "                        rank-N.pem and rank-N.key, as examples/transports/certificates makes them\n"
    "  --plaintext-on-any-network   tcp: other addresses than this machine's own, though nothing is encrypted\n"
    "  --stragglers PxS      each step, with probability P, takes S times as long (0.1x10), whoever's it is\n"
    "  --kill RANK:FRACTION  this worker dies after that fraction of the run, at most 0.9 (may be repeated)\n"
    "                        tcp: its process is killed (SIGKILL) in the middle of a message\n"
    "  --stop RANK:FRACTION:SECONDS   tcp, --launch: its process stops (SIGSTOP) for so long\n"
    "  --restart RANK:SECONDS   tcp, --launch: once it has died it is started anew so much later, and joins\n"
    "  --deadline S          tcp: a worker that is not heard of for so long is lost; longer than any step (10)\n"
    "  --save DIR            tcp: each worker saves itself there (DIR/worker-RANK) 24 times a run; one that comes "
    "again\n"
    "                        in dsgd_aau or from qsaddle to dsgdm goes on from there. (With --peers, WEFT_TCP_AGAIN=1 "
    "in\n"
    "                        the environment says that this worker comes later, or again)\n"
    "  --trace DIR           the last 4,096 events of each worker (DIR/ALGORITHM-worker-RANK.trace), for trace2json "
    "and\n"
    "                        Perfetto\n"
    "  --csv FILE            every measured point as a line of numbers\n"
    "  --svg FILE            accuracy against steps and against time; with --slow, --stragglers or --kill: against\n"
    "                        time, and below it what every worker did when\n"
    "  --demo                the chosen algorithms (of all: those up to nsaddle), then mean, mgrawa and dsgd_aau with\n"
    "                        the cnn for a few seconds, one worker slow and one killed: --svg is the picture of that,\n"
    "                        and the curves go beside it (NAME-curves.svg)\n"
    "  --help\n";

/* ---- Values ---- */

static void algorithms(const char *text, bool run[ALGORITHMS]) {
    memset(run, 0, ALGORITHMS * sizeof *run);
    for (;;) {
        size_t length = strcspn(text, ",");
        if (length == 3 && strncmp(text, "all", 3) == 0)
            for (int i = 0; i < ALGORITHMS; i++) run[i] = true;
        else
            run[value_name("--algorithm", text, length, ALGORITHM_NAME, ALGORITHMS,
                           "single, mean, subspace, adasum, mgrawa, lgrawa, uniform, easgd, lsgd, hpsgd, dsgd_aau, "
                           "qsaddle, nsaddle, qgm, ngc, dpsgd, dsgdm or all")] = true;
        if (!text[length]) return;
        text += length + 1;
    }
}

/* RANK:VALUE */
static void for_rank(const char *option, const char *text, double lo, double hi, double value[MAX_WORKERS]) {
    const char *colon = strchr(text, ':');
    char rank[16];
    if (!colon || (size_t)(colon - text) >= sizeof rank) bad_input("%s: expected RANK:NUMBER, got '%s'", option, text);
    memcpy(rank, text, (size_t)(colon - text));
    rank[colon - text] = 0;
    value[value_count(option, rank, 0, MAX_WORKERS - 1)] = value_number(option, colon + 1, lo, hi);
}

/* RANK:FRACTION:SECONDS */
static void stop(options *o, const char *option, const char *text) {
    const char *last = strrchr(text, ':');
    char first[64];
    if (!last || last == strchr(text, ':') || (size_t)(last - text) >= sizeof first)
        bad_input("%s: expected RANK:FRACTION:SECONDS, got '%s'", option, text);
    memcpy(first, text, (size_t)(last - text));
    first[last - text] = 0;
    for_rank(option, first, 0.0, 0.9, o->stop);
    o->stop_seconds[strtoul(first, NULL, 10)] = value_number(option, last + 1, 0.0, 3600.0);
}

static void stragglers(const char *option, const char *text, weft_pace *pace) {
    if (!weft_pace_parse_stragglers(pace, text) || pace->slowdown > 1000.0)
        bad_input("%s: expected PROBABILITYxSLOWDOWN, from 0 to 1 and from 1 to 1000, got '%s'", option, text);
}

static void codec(const char *option, const char *text, weft_codec *c) {
    if (!weft_codec_parse(c, text)) bad_input("%s: expected " WEFT_CODEC_NAMES ", got '%s'", option, text);
}

/* ---- The line as a whole ---- */

static void set(options *o, const char *option, const char *v) {
    static const char *const triggers[] = {"fixed", "total"}, *const transports[] = {"threads", "tcp", "mpi"},
                             *const devices[] = {"cpu", "cuda"};
    /* clang-format off */
#define IS(text) (strcmp(option, text) == 0)
    if (IS("--data")) o->data = v;
    else if (IS("--algorithm")) {
        algorithms(v, o->run);
        o->all = strcmp(v, "all") == 0;
    }
    else if (IS("--model"))
        o->model = (model_kind)value_name(option, v, strlen(v), MODEL_NAME, 3, "softmax, mlp or cnn");
    else if (IS("--hidden")) o->hidden = value_count(option, v, 1, 65536);
    else if (IS("--workers")) o->workers = value_count(option, v, 1, MAX_WORKERS);
    else if (IS("--epochs")) o->epochs = value_count(option, v, 1, 100000);
    else if (IS("--seconds")) o->seconds = value_number(option, v, 0.1, 1e6);
    else if (IS("--batch")) o->batch = value_count(option, v, 1, 65536);
    else if (IS("--optimiser"))
        o->optimiser = (optimiser)value_name(option, v, strlen(v), OPTIMISER_NAME, 2, "sgd or adam");
    else if (IS("--lr")) o->rate = value_number(option, v, 0.0, 1e6);
    else if (IS("--momentum")) o->momentum = value_number(option, v, 0.0, 0.9999);
    else if (IS("--weight-decay")) o->weight_decay = value_number(option, v, 0.0, 1.0);
    else if (IS("--alpha")) o->alpha = value_number(option, v, 0.0, 1e6);
    else if (IS("--seed")) o->seed = value_whole(option, v, 0, UINT64_MAX);
    else if (IS("--period")) o->period = value_count(option, v, 1, 1000000);
    else if (IS("--pull")) o->pull = value_number(option, v, 0.0, 1.0);
    else if (IS("--subspace-momentum")) o->subspace_momentum = value_number(option, v, 0.0, 0.999999);
    else if (IS("--trigger")) o->trigger = (trigger)value_name(option, v, strlen(v), triggers, 2, "fixed or total");
    else if (IS("--beta")) o->beta = value_number(option, v, 0.0, 1.0);
    else if (IS("--max-steps")) o->most_steps = value_count(option, v, 1, 1000000);
    else if (IS("--topology")) o->topology = v;
    else if (IS("--codec")) codec(option, v, &o->codec);
    else if (IS("--rho")) o->rho = value_number(option, v, 0.0, 1e6);
    else if (IS("--gamma")) o->gamma = value_above_zero(option, v, 1.0);
    else if (IS("--patience")) o->patience = value_number(option, v, 0.0, 1e6);
    else if (IS("--transport"))
        o->transport = (transport)value_name(option, v, strlen(v), transports, 3, "threads, tcp or mpi");
    else if (IS("--device")) o->device = (device_kind)value_name(option, v, strlen(v), devices, 2, "cpu or cuda");
    else if (IS("--launch")) o->launch = value_count(option, v, 1, MAX_WORKERS);
    else if (IS("--peers")) o->peers_file = v;
    else if (IS("--tls")) o->tls = v;
    else if (IS("--stragglers")) stragglers(option, v, &o->pace);
    else if (IS("--slow")) for_rank(option, v, 1.0, 1000.0, o->slow);
    else if (IS("--kill")) for_rank(option, v, 0.0, 0.9, o->kill);
    else if (IS("--stop")) stop(o, option, v);
    else if (IS("--restart")) for_rank(option, v, 0.0, 3600.0, o->restart);
    else if (IS("--deadline")) o->deadline = value_number(option, v, 0.1, 1e6);
    else if (IS("--save")) o->save = v;
    else if (IS("--trace")) o->trace = v;
    else if (IS("--csv")) o->csv = v;
    else if (IS("--svg")) o->svg = v;
    else bad_input("unknown option '%s' (--help lists them)", option);
#undef IS
    /* clang-format on */
}

static void check_gpu(const options *o) {
#ifdef WEFT_CUDA
    char there[200] = "";
    for (int a = 0; a < ALGORITHMS; a++)
        if (!HOST_ONLY[a]) strcat(strcat(there, there[0] ? ", " : ""), ALGORITHM_NAME[a]);
    for (int a = 0; a < ALGORITHMS; a++)
        if (o->run[a] && HOST_ONLY[a])
            bad_input("--device cuda: %s is not there on a GPU; there are %s", ALGORITHM_NAME[a], there);
    if (!MODEL_ON_GPU[o->model])
        bad_input("--device cuda: %s is not there on a GPU; there are softmax and mlp", MODEL_NAME[o->model]);
    if (o->demo) bad_input("--device cuda: --demo trains the cnn, too, which is not there on a GPU");
#else
    (void)o;
    bad_input("--device cuda: this program was built without CUDA; make train-cuda builds one with it");
#endif
}

/* What no option alone can tell. */
static void check(const options *o) {
    const size_t workers = o->launch ? o->launch : o->workers;
    size_t alive = workers, faults = 0, chosen = 0;
    for (size_t i = 0; i < MAX_WORKERS; i++) {
        const bool fault = o->kill[i] <= 1.0 || o->stop[i] <= 1.0 || o->restart[i] >= 0.0;
        if (i >= workers && (o->slow[i] > 1.0 || fault) && !o->peers_file && o->transport != TRANSPORT_MPI)
            bad_input("--slow, --kill, --stop and --restart: expected a rank below %zu, got %zu", workers, i);
        if (o->kill[i] <= 1.0) alive--;
        faults += fault;
        if ((o->stop[i] <= 1.0 || o->restart[i] >= 0.0) && !o->launch)
            bad_input("--stop and --restart: expected --launch beside them");
        for (int a = ALGORITHM_ADASUM; a <= ALGORITHM_LSGD && o->restart[i] >= 0.0; a++)
            if (o->run[a] && (a == ALGORITHM_ADASUM || a == ALGORITHM_EASGD || a == ALGORITHM_LSGD))
                bad_input("--restart: %s, which is there for comparison, lets nobody in", ALGORITHM_NAME[a]);
    }
    for (int a = 0; a < ALGORITHMS; a++) chosen += o->run[a];
    if (alive == 0) bad_input("--kill: nobody would be left");
    if (o->transport != TRANSPORT_TCP && (o->launch || o->peers_file || o->tls))
        bad_input("--launch, --peers and --tls: expected --transport tcp beside them");
    if (o->launch && o->peers_file) bad_input("--launch starts workers here, --peers says where they are: one of them");
    if (o->transport != TRANSPORT_THREADS && (o->demo || o->seconds > 0.0))
        bad_input("--demo and --seconds: expected --transport threads beside them");
    if (o->device == DEVICE_CUDA) check_gpu(o);
    if (o->transport == TRANSPORT_MPI && faults)
        bad_input("--kill, --stop and --restart: expected --transport tcp or threads (a loss ends an MPI job)");
    if (o->transport == TRANSPORT_TCP && faults && chosen != 1)
        bad_input("--kill, --stop and --restart over tcp: expected one --algorithm, got %zu", chosen);
    if (o->transport != TRANSPORT_TCP && o->save) bad_input("--save: expected --transport tcp beside it");
    bool graphs = false;
    for (int a = ALGORITHM_DSGD_AAU; a < ALGORITHMS; a++) graphs = graphs || o->run[a];
    for (int a = ALGORITHM_QSADDLE; a < ALGORITHMS; a++) {
        if (!o->run[a]) continue;
        if (o->optimiser != OPTIMISER_SGD)
            bad_input("--optimiser: expected sgd for %s, which is the optimiser, got %s", ALGORITHM_NAME[a],
                      OPTIMISER_NAME[o->optimiser]);
        if (!(o->rate > 0.0)) bad_input("--lr: expected a number above 0 for %s, got %g", ALGORITHM_NAME[a], o->rate);
    }
    if (graphs) {
        weft_graph graph;
        char why[240];
        void *memory = weft_topology_make(o->topology, (uint32_t)workers, o->seed, &graph, why, sizeof why);
        if (!memory) bad_input("--topology: %s", why);
        free(memory);
    }
    value_can_write("--csv", o->csv);
    value_can_write("--svg", o->svg);
    value_can_write_in("--save", o->save);
    value_can_write_in("--trace", o->trace);
}

void options_parse(options *o, int argc, char **argv) {
    memset(o, 0, sizeof *o);
    o->model = MODEL_MLP;
    o->hidden = 128;
    o->workers = 4;
    o->epochs = 10;
    o->batch = 32;
    o->period = 32;
    o->rate = -1.0; /* not said */
    o->subspace_momentum = 0.99;
    o->momentum = 0.9;
    o->weight_decay = 1e-4;
    o->pull = 0.5;
    o->seed = 1;
    o->beta = 0.5;
    o->most_steps = 16;
    o->topology = "exponential";
    o->codec = weft_codec_identity();
    o->rho = 0.05;
    o->gamma = 1.0;
    o->pace = weft_pace_default();
    o->deadline = 10.0;
    for (int i = 0; i < ALGORITHMS; i++) o->run[i] = true;
    o->all = true;
    for (int i = 0; i < MAX_WORKERS; i++) {
        o->slow[i] = 1.0;
        o->kill[i] = o->stop[i] = 2.0;
        o->restart[i] = -1.0;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(USAGE, stdout);
            fputs(USAGE_MORE, stdout);
            exit(EXIT_SUCCESS);
        }
        if (strcmp(argv[i], "--demo") == 0) {
            o->demo = true;
            continue;
        }
        if (strcmp(argv[i], "--plaintext-on-any-network") == 0) {
            o->plaintext = true;
            continue;
        }
        if (strncmp(argv[i], "--", 2) != 0) bad_input("unexpected '%s' (--help lists the options)", argv[i]);
        if (i + 1 == argc) bad_input("%s: no such option, or its value is missing", argv[i]);
        set(o, argv[i], argv[i + 1]);
        i++;
    }
    if (o->rate < 0.0) o->rate = RATE[o->optimiser];
    for (int a = ALGORITHM_QSADDLE; o->all && a < ALGORITHMS; a++) /* all: those that can */
        o->run[a] = o->optimiser == OPTIMISER_SGD && o->rate > 0.0;
#ifdef WEFT_CUDA
    for (int a = 0; o->all && o->device == DEVICE_CUDA && a < ALGORITHMS; a++) o->run[a] = o->run[a] && !HOST_ONLY[a];
#endif
    check(o);
}
