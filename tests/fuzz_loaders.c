/* SPDX-License-Identifier: MIT
 * libFuzzer: the files of MNIST (IDX) and CIFAR-10 as a stranger may have made them, plain and gzipped. Input: which of
 * the two, then the files one after the other, each in chunks of literal bytes and of runs, so that a short input makes
 * long files. A data set that is taken has labels below its classes and as many pixels as it says; what is refused is
 * refused with one line that names the file.
 *
 * examples/train/data.c is compiled in here, with memory and files of this program's own: a refusal comes back to it.
 * */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef WEFT_HAVE_ZLIB
#include <zlib.h>
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

/* ---- memory, files and the end of the program, all of which come back here ---- */

enum { BLOCKS = 256, FILES = 4, LONGEST = 1 << 18 };

static void *block[BLOCKS]; /* what data.c holds, so that a refusal leaves nothing behind */
static FILE *open_file;
#ifdef WEFT_HAVE_ZLIB
static gzFile open_gz;
#endif
static jmp_buf refused;
static char said[600];

static struct {
    const char *name;
    unsigned char *bytes;
    size_t count;
} file[FILES];
static int files;

static void *held(void *p) {
    int i;
    for (i = 0; i < BLOCKS; i++)
        if (!block[i]) {
            block[i] = p;
            return p;
        }
    need(0, "too many blocks");
    return NULL;
}

static void let_go(void *p) {
    int i;
    for (i = 0; p && i < BLOCKS; i++)
        if (block[i] == p) block[i] = NULL;
    free(p);
}

static void *again(void *p, size_t n) {
    int i;
    for (i = 0; p && i < BLOCKS; i++)
        if (block[i] == p) block[i] = NULL;
    return held(realloc(p, n));
}

static int number_of(const char *path) {
    const char *slash = strrchr(path, '/');
    int i;
    for (i = 0; i < files; i++)
        if (strcmp(slash ? slash + 1 : path, file[i].name) == 0) return i;
    return -1;
}

static FILE *file_open(const char *path, const char *mode) {
    const int i = number_of(path);
    FILE *f;
    if (i < 0) {
        errno = ENOENT;
        return NULL;
    }
    f = file[i].count ? fmemopen(file[i].bytes, file[i].count, mode) : fopen("/dev/null", mode);
    need(f != NULL, "fmemopen");
    open_file = f;
    return f;
}

static int file_close(FILE *f) {
    if (f == open_file) open_file = NULL;
    return fclose(f);
}

#ifdef WEFT_HAVE_ZLIB
static gzFile gz_open(const char *path, const char *mode) {
    const int i = number_of(path), fd = memfd_create("gz", 0);
    size_t at = 0;
    need(i >= 0 && fd >= 0, "a file in memory");
    while (at < file[i].count) {
        const ssize_t n = write(fd, file[i].bytes + at, file[i].count - at);
        need(n > 0, "write");
        at += (size_t)n;
    }
    lseek(fd, 0, SEEK_SET);
    return open_gz = gzdopen(fd, mode);
}

static int gz_close(gzFile f) {
    open_gz = NULL;
    return gzclose(f);
}
#define gzopen gz_open
#define gzclose gz_close
#endif

#define fopen file_open
#define fclose file_close
#define malloc(n) held(malloc(n))
#define realloc again
#define free let_go

#include "../examples/train/data.c"

#undef fopen
#undef fclose
#undef malloc
#undef realloc
#undef free

const char *program_name = "fuzz";

_Noreturn void bad_input(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vsnprintf(said, sizeof said, format, ap);
    va_end(ap);
    longjmp(refused, 1);
}

_Noreturn void broken(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    abort(); /* these inputs are small: nothing may run out */
}

void *new_array(size_t count, size_t bytes_each) {
    need(bytes_each == 0 || count <= SIZE_MAX / bytes_each, "a product that overflows");
    return held(calloc(count ? count : 1, bytes_each ? bytes_each : 1));
}

/* ---- the input ---- */

/* The next file: chunks 1 (length, bytes), 2 (length of 16 bits, one byte again and again), 0: the end of it. */
static void next_file(const char *name, const uint8_t **data, size_t *size, int gz) {
    unsigned char *out = (unsigned char *)malloc(LONGEST);
    size_t n = 0;
    need(out != NULL && files < FILES, "memory");
    while (*size && **data % 3) {
        const int kind = **data % 3;
        const size_t head = kind == 1 ? 2 : 4;
        size_t length;
        if (*size < head) {
            *size = 0;
            break;
        }
        length = kind == 1 ? (*data)[1] : (size_t)((*data)[1] | (*data)[2] << 8);
        if (kind == 1 && length > *size - head) length = *size - head;
        if (length > LONGEST - n) length = LONGEST - n;
        if (kind == 1)
            memcpy(out + n, *data + head, length);
        else
            memset(out + n, (*data)[3], length);
        n += length;
        *data += head + (kind == 1 ? length : 0);
        *size -= head + (kind == 1 ? length : 0);
    }
    if (*size) {
        ++*data;
        --*size;
    }
#ifdef WEFT_HAVE_ZLIB
    if (gz == 2) { /* really packed */
        static unsigned char packed[LONGEST + 1024];
        z_stream z;
        memset(&z, 0, sizeof z);
        need(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "deflate");
        z.next_in = out;
        z.avail_in = (uInt)n;
        z.next_out = packed;
        z.avail_out = sizeof packed;
        need(deflate(&z, Z_FINISH) == Z_STREAM_END, "deflate");
        n = z.total_out;
        if (n > LONGEST) n = LONGEST;
        memcpy(out, packed, n);
        deflateEnd(&z);
    }
#else
    (void)gz;
#endif
    file[files].name = name;
    file[files].bytes = (unsigned char *)realloc(out, n ? n : 1); /* exactly so long */
    file[files++].count = n;
}

static void look(dataset *d) {
    const image_set *set[2] = {&d->train, &d->test};
    int s;
    need(d->features == d->width * d->height * d->channels && d->features > 0, "features");
    need(d->classes == MAX_CLASSES && d->channels >= 1 && d->channels <= MAX_CHANNELS, "classes and channels");
    for (s = 0; s < 2; s++) {
        size_t i;
        uint64_t sum = 0;
        need(set[s]->count > 0 && set[s]->pixel && set[s]->label, "a set without images");
        for (i = 0; i < set[s]->count; i++) need(set[s]->label[i] < d->classes, "a label beyond the classes");
        for (i = 0; i < set[s]->count * d->features; i++) sum += set[s]->pixel[i]; /* all there */
        need(sum <= 255u * (uint64_t)(set[s]->count * d->features), "pixels");
    }
    for (s = 0; s < (int)d->channels; s++)
        need(isfinite(d->scale[s]) && isfinite(d->shift[s]) && d->scale[s] > 0, "a scale that is no number");
}

/* Shares and batches of it, as training takes them. */
static void use(dataset *d, unsigned how) {
    partition p;
    sampler s;
    uint32_t index[3];
    uint8_t label[3];
    float *x = (float *)held(malloc(3 * d->features * sizeof *x));
    size_t i;
    partition_make(&p, d, 1 + how % 3, how & 4 ? 0.1 : 0, how);
    sampler_init(&s, &p, how % p.workers, d, how);
    if (s.count) {
        sampler_next(&s, 3, index);
        for (i = 0; i < 3; i++) need(index[i] < d->train.count, "an image that is not there");
        dataset_gather(d, &d->train, index, 3, x, label);
        for (i = 0; i < 3 * d->features; i++) need(isfinite(x[i]), "a pixel that is no number");
    }
    sampler_free(&s);
    partition_free(&p);
    let_go(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const idx[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                       "t10k-labels-idx1-ubyte"},
                            *const idx_gz[4] = {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
                                                "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"},
                            *const cifar[3] = {"data_batch_1.bin", "data_batch_4.bin", "test_batch.bin"},
                            *const cifar_gz[3] = {"data_batch_1.bin.gz", "data_batch_4.bin.gz", "test_batch.bin.gz"};
    static dataset d;
    unsigned what, packed, use_how;
    int i;
    if (size < 3) return 0;
    what = data[0];
    packed = data[1];
    use_how = data[2];
    data += 3;
    size -= 3;
    files = 0;
    for (i = 0; i < 4; i++) { /* gz: 1: the bytes are what a .gz file holds; 2: they are packed into one */
        const int gz = (packed >> 2 * i & 3) % 3;
        if (what & 1) {
            if (i < 3) next_file((gz ? cifar_gz : cifar)[i], &data, &size, gz);
        } else {
            next_file((gz ? idx_gz : idx)[i], &data, &size, gz);
        }
    }
    said[0] = 0;
    if (setjmp(refused) == 0) {
        dataset_load(&d, "some/folder");
        look(&d);
        use(&d, use_how);
        dataset_free(&d);
    } else {
        need(strstr(said, "some/folder") || strstr(said, "training images"), "a refusal that does not name the file");
        need(!strchr(said, '\n'), "more than one line");
    }
    for (i = 0; i < BLOCKS; i++) let_go(block[i]);
    if (open_file) fclose(open_file);
    open_file = NULL;
#ifdef WEFT_HAVE_ZLIB
    if (open_gz) (gzclose)(open_gz);
    open_gz = NULL;
#endif
    for (i = 0; i < files; i++) free(file[i].bytes);
    return 0;
}
