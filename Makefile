# SPDX-License-Identifier: MIT
# weft: single-file C headers for distributed training. `make help` explains the targets.
# Works with gcc and clang (make CC=clang CXX=clang++); everything is built under build/.

CC ?= cc
CXX ?= c++
BUILD ?= build
CFLAGS ?= -O2 -g
LDFLAGS ?=
PREFIX ?= /usr/local
DESTDIR ?=

# The algorithms are what lies in src/: each becomes one header at the top.
SOURCES := $(sort $(wildcard src/*.h))
HEADERS := $(notdir $(SOURCES))
FOUNDATION := $(wildcard src/weft/*.h src/weft/*/*.h)
VERSION := $(shell awk '/^.define WEFT_VERSION / { print int($$3 / 10000) "." int($$3 / 100) % 100 "." $$3 % 100 }' \
             src/weft/base.h)

# ---- flags -----------------------------------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wundef -Wstrict-prototypes -Wdouble-promotion
INC := -I. -Iexamples -Iexamples/transports
DEP = -MMD -MP -MF $@.d -MT $@
# Recursively expanded and then fixed at first use, so that a plain `make demo` does not ask for what only tests need.
once = $(eval $(1) := $(2))$($(1))
accepts = $(shell echo 'int weft_probe;' | $(CC) -Werror $(1) -x c -c -o /dev/null - 2>/dev/null && echo $(1))
NATIVE = $(call once,NATIVE,$(call accepts,-march=native))
ZLIB_FLAGS = $(call once,ZLIB_FLAGS,$(shell pkg-config --exists zlib 2>/dev/null && \
             echo -DWEFT_HAVE_ZLIB $$(pkg-config --cflags zlib)))
# Open MPI's or MPICH's, if there
MPI_FLAGS = $(call once,MPI_FLAGS,$(shell pkg-config --exists mpi 2>/dev/null && \
            echo -DWEFT_HAVE_MPI $$(pkg-config --cflags mpi)))
MPI_LIBS = $(call once,MPI_LIBS,$(shell pkg-config --libs mpi 2>/dev/null))
# OpenSSL 3's, if there: TLS between workers
TLS_FLAGS = $(call once,TLS_FLAGS,$(shell pkg-config --exists 'openssl >= 3' 2>/dev/null && \
            echo -DWEFT_TCP_TLS $$(pkg-config --cflags openssl)))
TLS_LIBS = $(call once,TLS_LIBS,$(if $(TLS_FLAGS),$(shell pkg-config --libs openssl)))
# Torch's C++ library, if there: where Debian has it; for another one set these
TORCH_CFLAGS ?= -isystem /usr/include/torch/csrc/api/include
TORCH_LIBS ?= -ltorch_cpu -lc10
HAS_TORCH = $(call once,HAS_TORCH,$(shell echo 'int main() { return 0; }' | $(CXX) $(TORCH_CFLAGS) -include torch/version.h \
            -x c++ - -o /dev/null $(TORCH_LIBS) 2>/dev/null && echo yes))
ZLIB_LIBS = $(call once,ZLIB_LIBS,$(shell pkg-config --libs zlib 2>/dev/null))
CHECK = $(call once,CHECK,$(shell pkg-config --cflags --libs check 2>/dev/null || echo -lcheck))
CJSON = $(call once,CJSON,$(shell pkg-config --cflags --libs libcjson 2>/dev/null || echo -lcjson))

# CUDA's compiler, if there; what it compiles for, and as PTX for what comes
NVCC ?= $(shell command -v nvcc 2>/dev/null || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
NVCC_FLAGS ?= -gencode arch=compute_75,code=sm_75 -gencode arch=compute_80,code=sm_80 \
              -gencode arch=compute_90,code=sm_90 -gencode 'arch=compute_100,code=[sm_100,compute_100]'
# nvcc drops the comments that say where a case falls through
NVCC_STRICT := -std=c++17 -O2 -Werror all-warnings \
               -Xcompiler -Wall,-Wextra,-Wshadow,-Wdouble-promotion,-Wno-implicit-fallthrough

# Programs a user runs are built for this machine; tests for any.
EXAMPLE_FLAGS = -std=gnu11 -O3 $(NATIVE) -g $(WARN) $(INC)
TEST_FLAGS = -std=gnu11 $(WARN) $(INC) -Itests
LIBS := -lm -pthread
CUDA_TEST_FLAGS = -std=c++11 $(filter-out -Wstrict-prototypes,$(WARN)) $(INC) -Ibench -Itests -DWEFT_NO_SIMD \
                  -ffp-contract=off -U_FORTIFY_SOURCE

# Sanitizers are gcc's, the fuzzer is clang's, whatever CC is.
SAN_CC ?= $(shell command -v gcc 2>/dev/null || echo $(CC))
SAN_CXX ?= $(shell command -v g++ 2>/dev/null || echo $(CXX))
FUZZ_CC ?= clang
ASAN := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
TSAN := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
# on a GPU what is volatile is no race: gcc's word for it, or clang's
TSAN_VOLATILE = $(call once,TSAN_VOLATILE,$(shell echo 'int weft_probe;' | $(SAN_CXX) -Werror --param \
                tsan-distinguish-volatile=1 -x c++ -c -o /dev/null - 2>/dev/null && \
                echo --param tsan-distinguish-volatile=1 || echo -mllvm -tsan-distinguish-volatile=1))
FUZZER := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all

# Instruction sets are the affair of the tests of kernels, codecs, misuse, and of each header's first one; without them
# the others (faults, schedules, networks) are built in half the time.
SCALAR = $(if $(filter %_faults %_state %_threads %_views %_overlap %_links %_machine %_trainer %_doc \
             test_sim% test_members test_link test_tcp test_tls test_selftest test_options test_graph \
             test_stragglers test_edge test_manual test_pieces test_leave test_train_% fuzz_%_wire fuzz_wire fuzz_state fuzz_link fuzz_loaders fuzz_peers fuzz_tcp, \
             $(notdir $@)),-DWEFT_NO_SIMD=)

# ---- what there is ---------------------------------------------------------------------------------------------------

UNIT_SRC := $(sort $(filter-out $(if $(TLS_FLAGS),,tests/test_tls.c) tests/test_train_cuda.c,$(wildcard tests/test_*.c)))
# tests in which threads really run beside each other
TSAN_TESTS ?= tests/test_threads.c tests/test_pool.c tests/test_selftest.c tests/test_subspace_threads.c \
               tests/test_dsgd_aau_threads.c tests/test_hpsgd_threads.c tests/test_saddle_threads.c
TSAN_SRC := $(filter $(TSAN_TESTS),$(UNIT_SRC))
FUZZ_SRC := $(sort $(wildcard tests/fuzz_*.c))
GOLDEN_SRC := $(sort $(wildcard tests/golden_*.c))
EXAMPLE_SRC := $(filter-out examples/train.c examples/cluster.c examples/llm.c,$(sort $(wildcard examples/*.c)))
TRAIN_SRC := $(wildcard examples/train.c) $(sort $(wildcard examples/train/*.c))
# the simulator trains the same models
CLUSTER_SRC := $(wildcard examples/cluster.c) $(sort $(wildcard examples/cluster/*.c)) \
               $(patsubst %,examples/train/%.c,data gemm glyphs measure model nn optim plot util values)
LLM_SRC := $(wildcard examples/llm.c) $(sort $(wildcard examples/llm/*.c)) \
           $(patsubst %,examples/train/%.c,gemm nn plot ports processes util values)
TORCH_SRC := $(wildcard examples/libtorch.cpp) $(sort $(wildcard examples/libtorch/*.cpp))

UNIT := $(UNIT_SRC:tests/%.c=$(BUILD)/test/%)
# the kernels, and the codecs beside another header, once more as C++ and as user code built for this machine: flags
# under which compilers fuse and reorder
UNIT_AGAIN := $(BUILD)/test/kernels_native $(BUILD)/test/kernels_cxx $(BUILD)/test/codec_cxx
# test_kernels_fma is test_kernels at -O3, where gcc (bug 110027) takes the address sanitizer's own stack frames to be
# aligned for 64-byte vectors, which they are not
ASAN_UNIT := $(patsubst tests/%.c,$(BUILD)/asan/%,$(filter-out tests/test_kernels_fma.c,$(UNIT_SRC)))
# device kernels on the CPU: fibers switch stacks by jumps, which hardened C libraries take for an attack
CUDA_SRC := $(wildcard tests/test_cuda*.cpp)
CUDA_TESTS := $(foreach d,test asan,$(CUDA_SRC:tests/%.cpp=$(BUILD)/$(d)/%)) $(BUILD)/test/test_train_cuda
TSAN_UNIT := $(TSAN_SRC:tests/%.c=$(BUILD)/tsan/%)
# and each of their threads as one of the operating system
CUDA_TSAN := $(BUILD)/tsan/test_cuda $(BUILD)/tsan/test_cuda_codec
FUZZ := $(FUZZ_SRC:tests/%.c=$(BUILD)/fuzz/%)
GOLDEN := $(GOLDEN_SRC:tests/golden_%.c=$(BUILD)/golden-%)
EXAMPLES := $(EXAMPLE_SRC:examples/%.c=$(BUILD)/%)

# programs of several files, and those of one
BENCHES := bench-kernels bench-collectives $(patsubst bench/bench_%.c,bench-%,$(sort $(wildcard bench/bench_*.c)))

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: help all demo llm edge libtorch libtorch-program examples headers check-headers matrix test test-quick test-programs unit-programs \
        asan-programs tsan-programs fuzz-programs golden-programs cuda-programs cuda cuda-test cuda-bench train-cuda mutants mutants-random cross mixed \
        cross-all platforms deps-nightly coverage lint bench papers $(BENCHES) bench-deps \
        deps install uninstall release check-docs clean

help:
	@echo 'weft $(VERSION): $(HEADERS)'
	@echo
	@echo 'make demo            build build/train and train on generated data; writes build/demo.svg  (a C compiler only)'
	@echo 'make llm             build build/llm and train a small transformer on text, with two processes over TCP, by every'
	@echo '                     rule; writes build/llm.svg  (a C compiler only; some minutes)'
	@echo 'make libtorch        build build/libtorch and train a small ResNet on images with libtorch (libtorch-dev), with two'
	@echo '                     processes over TCP, by every rule; writes build/libtorch.svg  (some minutes)'
	@echo 'make edge            two microcontrollers, emulated, learn spoken digits together over a serial line; what that takes'
	@echo '                     (arm-none-eabi-gcc, qemu-system-arm; a minute or two; RECORDINGS=DIR: real ones)'
	@echo 'make examples        build the programs of examples/: train, cluster (the simulator), llm, hello_*'
	@echo 'make test            everything: headers fresh, documents, matrix, unit tests, sanitizers, golden, fuzz, cross, MPI, CUDA,'
	@echo '                     microcontrollers, release, mutants'
	@echo 'make test-quick      headers fresh and the unit tests only'
	@echo 'make matrix          the strict-warning compile matrix only'
	@echo 'make mutants         the deliberate faults only'
	@echo 'make mutants-random  lines of src/ broken at random: how many do the tests notice?  (FAULTS=100, SEED=1; about an hour)'
	@echo 'make cross           other machines only: 64-bit Arm, older x86, i386, big-endian, WebAssembly, Windows; other compilers'
	@echo 'make mixed           one job of workers on different machines only, over TCP'
	@echo 'make cross-all       both, with what `make test` has no time for: musl, 32-bit Arm, RISC-V, POWER'
	@echo 'make platforms       these and the matrix, and what they covered into docs/PLATFORMS.md'
	@echo 'make coverage        what of src/ the tests run, into build/coverage; fails below 100 % of lines or 95 % of branches'
	@echo 'make lint            clang-tidy, cppcheck, the analyzer of gcc and valgrind (tests/deps lint installs them)'
	@echo 'make train-cuda      build build/train for --device cuda, too (nvcc and cuBLAS)'
	@echo 'make cuda            compile the device code of every header, if nvcc is found; make cuda-test: run it, on a GPU'
	@echo 'make cuda-bench      on a GPU: device kernels against its copies, into build/bench/cuda.md (BENCH_ARGS as below)'
	@echo 'make deps            install what the tests need (Debian, Ubuntu), or name it; deps-nightly: for cross-all, too'
	@echo 'make headers         rewrite the headers at the top from src/'
	@echo 'make check-headers   fail if they are stale'
	@echo 'make bench           what everything costs: one report, build/bench/report.md (a quarter of an hour; the machine should be'
	@echo '                     idle; QUICK=1: two minutes, a look)'
	@echo 'make papers          what the papers claim, tested: hours, into bench/results; QUICK=1: build/papers/report.md, minutes;'
	@echo '                     IMAGES=DIR TEXT=FILE ADULT=DIR: data sets (else those of examples/data/get.sh, or made by the programs)'
	@echo '$(BENCHES)'
	@echo '                     one of them, into bench/results; with BENCH_ARGS=--quick: a look; --help: what else'
	@echo 'make bench-deps      install what they compare with: OpenBLAS, torch, Gloo, OpenMPI, xxHash, stb; none of it is needed'
	@echo 'make install         headers, pkg-config file and CMake package into PREFIX ($(PREFIX)), under DESTDIR'
	@echo 'make release         the headers, their sums and an archive, of this commit, into $(BUILD)/release; TAG=yes: and the tag'
	@echo 'make check-docs      do links, files and tests that the documents name exist'
	@echo 'make clean           remove build/'
	@echo
	@echo 'CC=$(CC) CXX=$(CXX) CFLAGS=$(CFLAGS) BUILD=$(BUILD)'

all: examples

# ---- the headers at the top ------------------------------------------------------------------------------------------

headers:
	@mkdir -p $(BUILD)/headers
	@set -e; for h in $(HEADERS); do \
	    src/amalgamate src/$$h > $(BUILD)/headers/$$h; \
	    if cmp -s $(BUILD)/headers/$$h $$h; then echo "$$h is up to date"; \
	    else cp $(BUILD)/headers/$$h $$h; echo "$$h written"; fi; \
	done

check-headers:
	@mkdir -p $(BUILD)/headers
	@bad=0; for h in $(HEADERS); do \
	    src/amalgamate src/$$h > $(BUILD)/headers/$$h || { bad=1; continue; }; \
	    cmp -s $(BUILD)/headers/$$h $$h && continue; \
	    echo "$$h is stale: run make headers"; diff $$h $(BUILD)/headers/$$h | head -20; bad=1; \
	done; \
	for h in $(wildcard *.h); do \
	    [ -f src/$$h ] || { echo "$$h has no source in src/"; bad=1; }; \
	done; \
	exit $$bad

# ---- programs --------------------------------------------------------------------------------------------------------

demo: $(BUILD)/train
	$(BUILD)/train --demo --svg $(BUILD)/demo.svg --csv $(BUILD)/demo.csv

llm: $(BUILD)/llm
	$(BUILD)/llm --svg $(BUILD)/llm.svg --csv $(BUILD)/llm.csv --generate 400

edge:
	@BUILD='$(BUILD)' CC='$(CC)' examples/edge/run $(RECORDINGS)

# Torch is no part of `make examples`: it is large, and seldom there. libtorch-program: without the run.
TORCH_WANTED = $(filter libtorch libtorch-program,$(MAKECMDGOALS))
libtorch-program: $(if $(TORCH_WANTED),$(if $(HAS_TORCH),$(BUILD)/libtorch))
	@$(if $(HAS_TORCH),,echo "libtorch: torch's C++ library is not here: install libtorch-dev (Debian, Ubuntu)," \
	    'or give TORCH_CFLAGS and TORCH_LIBS' >&2; exit 1)

libtorch: libtorch-program
	$(BUILD)/libtorch --svg $(BUILD)/libtorch.svg --csv $(BUILD)/libtorch.csv

examples: $(EXAMPLES) $(BUILD)/train $(BUILD)/cluster $(BUILD)/llm

TRAIN_OBJ := $(TRAIN_SRC:%.c=$(BUILD)/obj/%.o)
$(BUILD)/train: $(TRAIN_OBJ)
	$(CC) $(LDFLAGS) $(TRAIN_OBJ) $(ZLIB_LIBS) $(MPI_LIBS) $(TLS_LIBS) $(LIBS) -o $@

CLUSTER_OBJ := $(CLUSTER_SRC:%.c=$(BUILD)/obj/%.o)
$(BUILD)/cluster: $(CLUSTER_OBJ)
	$(CC) $(LDFLAGS) $(CLUSTER_OBJ) $(ZLIB_LIBS) $(LIBS) -o $@

LLM_OBJ := $(LLM_SRC:%.c=$(BUILD)/obj/%.o)
$(BUILD)/llm: $(LLM_OBJ)
	$(CC) $(LDFLAGS) $(LLM_OBJ) $(TLS_LIBS) $(LIBS) -o $@

TORCH_OBJ := $(TORCH_SRC:%.cpp=$(BUILD)/obj/%.o)
TORCH_C_OBJ := $(patsubst %,$(BUILD)/obj/examples/train/%.o,data glyphs library plot ports processes progress util values)
$(BUILD)/libtorch: $(TORCH_OBJ) $(TORCH_C_OBJ)
	$(CXX) $(LDFLAGS) $^ $(TORCH_LIBS) $(ZLIB_LIBS) $(TLS_LIBS) $(LIBS) -o $@

$(TORCH_OBJ): $(BUILD)/obj/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -g1 -ffp-contract=off $(filter-out -Wstrict-prototypes,$(WARN)) $(INC) \
	    $(if $(findstring weft,$<),$(TLS_FLAGS)) $(TORCH_CFLAGS) $(DEP) -c $< -o $@

# No contraction: the table of a run is the same from every compiler and machine.
$(sort $(TRAIN_OBJ) $(CLUSTER_OBJ) $(LLM_OBJ)): $(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(EXAMPLE_FLAGS) -ffp-contract=off $(ZLIB_FLAGS) $(if $(findstring crew,$<),$(MPI_FLAGS) $(TLS_FLAGS)) \
	    $(if $(findstring parallel,$<),$(TLS_FLAGS)) -pthread $(DEP) \
	    -c $< -o $@

$(EXAMPLES): $(BUILD)/%: examples/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(EXAMPLE_FLAGS) $(DEP) $(LDFLAGS) $< $(LIBS) -o $@

# Their rules, and what they compare with, are in bench/Makefile.
BENCH = +@$(MAKE) --no-print-directory -f bench/Makefile BUILD='$(BUILD)' BENCH_ARGS='$(BENCH_ARGS)'

bench:
	$(BENCH) costs QUICK='$(QUICK)'

papers:
	$(BENCH) papers QUICK='$(QUICK)' $(if $(IMAGES),IMAGES='$(IMAGES)') $(if $(TEXT),TEXT='$(TEXT)') $(if $(ADULT),ADULT='$(ADULT)')

$(BENCHES):
	$(BENCH) run-$(@:bench-%=%)

bench-deps:
	@bench/deps

# ---- test programs ---------------------------------------------------------------------------------------------------

# The old program goes first, so that a build that fails leaves nothing to run.
$(UNIT): $(BUILD)/test/%: tests/%.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(CC) $(TEST_FLAGS) $(SCALAR) $(CFLAGS) $(DEP) $(LDFLAGS) $< $(CHECK) $(if $(findstring test_tls,$<),$(TLS_LIBS)) $(if $(findstring recorder,$<),$(CJSON)) $(LIBS) -o $@

$(BUILD)/test/kernels_native: tests/test_kernels.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(CC) $(TEST_FLAGS) -O3 $(NATIVE) $(DEP) $(LDFLAGS) $< $(CHECK) $(LIBS) -o $@

$(BUILD)/test/kernels_cxx: tests/test_kernels.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(CXX) -x c++ -std=gnu++17 $(INC) -Itests -O3 $(NATIVE) $(DEP) $(LDFLAGS) $< -x none $(CHECK) $(LIBS) -o $@

$(BUILD)/test/codec_cxx: tests/test_codec.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(CXX) -x c++ -std=gnu++17 $(INC) -Itests -O3 $(NATIVE) -DBESIDE='"grawa.h"' $(DEP) $(LDFLAGS) $< -x none $(CHECK) \
	    $(LIBS) -o $@

$(ASAN_UNIT): $(BUILD)/asan/%: tests/%.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(SAN_CC) $(TEST_FLAGS) $(SCALAR) $(ASAN) $(DEP) $(LDFLAGS) $< $(CHECK) $(if $(findstring test_tls,$<),$(TLS_LIBS)) $(if $(findstring recorder,$<),$(CJSON)) $(LIBS) -o $@

$(filter $(BUILD)/test/test_cuda%,$(CUDA_TESTS)): $(BUILD)/test/%: tests/%.cpp Makefile
	@mkdir -p $(@D) && rm -f $@
	$(CXX) -x c++ $(CUDA_TEST_FLAGS) $(CFLAGS) $(DEP) $< -x none $(LDFLAGS) $(CHECK) $(LIBS) -o $@

$(filter $(BUILD)/asan/%,$(CUDA_TESTS)): $(BUILD)/asan/%: tests/%.cpp Makefile
	@mkdir -p $(@D) && rm -f $@
	$(SAN_CXX) -x c++ $(CUDA_TEST_FLAGS) $(ASAN) $(DEP) $< -x none $(LDFLAGS) $(CHECK) $(LIBS) -o $@

# build/train for a GPU, with the tests' own runtime and products
SHIM_C := $(filter-out %/library.c,$(TRAIN_SRC)) tests/test_train_cuda.c
SHIM_OBJ := $(SHIM_C:%.c=$(BUILD)/shim/%.o) $(BUILD)/shim/library.o $(BUILD)/shim/gpu.o
SHIM_CUDA = $(CXX) -x c++ $(CUDA_TEST_FLAGS) -DWEFT_CUDA -DWEFT_CUDA_RUNTIME='"cuda_events.h"' \
            -DTRAIN_CUBLAS='"cublas_double.h"' $(CFLAGS) $(DEP) -c $< -o $@

$(SHIM_C:%.c=$(BUILD)/shim/%.o): $(BUILD)/shim/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(TEST_FLAGS) -DWEFT_CUDA -Dmain=$(if $(findstring examples/train.c,$<),train_main,main) -ffp-contract=off \
	    $(CFLAGS) $(DEP) -pthread -c $< -o $@

$(BUILD)/shim/library.o: examples/train/library.c Makefile
	@mkdir -p $(@D)
	$(SHIM_CUDA)

$(BUILD)/shim/gpu.o: examples/train/gpu.cu Makefile
	@mkdir -p $(@D)
	$(SHIM_CUDA)

$(BUILD)/test/test_train_cuda: $(SHIM_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(CXX) $(LDFLAGS) $(SHIM_OBJ) $(CHECK) $(LIBS) -o $@

$(TSAN_UNIT): $(BUILD)/tsan/%: tests/%.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(SAN_CC) $(TEST_FLAGS) $(SCALAR) $(TSAN) $(DEP) $(LDFLAGS) $< $(CHECK) $(LIBS) -o $@

$(CUDA_TSAN): $(BUILD)/tsan/%: tests/%.cpp Makefile
	@mkdir -p $(@D) && rm -f $@
	$(SAN_CXX) -x c++ $(CUDA_TEST_FLAGS) -DCUSHIM_PTHREADS $(TSAN) $(TSAN_VOLATILE) $(DEP) $< -x none $(LDFLAGS) $(CHECK) \
	    $(LIBS) -o $@

# the loaders unpack .gz where zlib is there
$(FUZZ): $(BUILD)/fuzz/%: tests/%.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(FUZZ_CC) $(TEST_FLAGS) $(SCALAR) $(FUZZER) $(if $(findstring loaders,$<),$(ZLIB_FLAGS)) $(DEP) $(LDFLAGS) $< \
	    $(if $(findstring loaders,$<),$(ZLIB_LIBS)) $(LIBS) -o $@

$(GOLDEN): $(BUILD)/golden-%: tests/golden_%.c Makefile
	@mkdir -p $(@D) && rm -f $@
	$(CC) $(TEST_FLAGS) $(CFLAGS) $(DEP) $(LDFLAGS) $< $(CJSON) $(LIBS) -o $@

unit-programs: $(UNIT) $(UNIT_AGAIN)
asan-programs: $(ASAN_UNIT)
tsan-programs: $(TSAN_UNIT) $(CUDA_TSAN)
fuzz-programs: $(FUZZ)
golden-programs: $(GOLDEN)
cuda-programs: $(CUDA_TESTS)

# ---- running the tests -----------------------------------------------------------------------------------------------

RUN = CC='$(CC)' CXX='$(CXX)' SAN_CC='$(SAN_CC)' FUZZ_CC='$(FUZZ_CC)' BUILD='$(BUILD)' MAKE='$(MAKE)' \
      UNIT='$(UNIT) $(UNIT_AGAIN)' ASAN_UNIT='$(ASAN_UNIT)' TSAN_UNIT='$(TSAN_UNIT) $(CUDA_TSAN)' FUZZ='$(FUZZ)' GOLDEN='$(GOLDEN)' \
      CUDA_TESTS='$(CUDA_TESTS)' NVCC='$(NVCC)' \
      EXAMPLES='$(EXAMPLES)' HEADERS='$(HEADERS)' tests/run

# `make -j2 deps test` must not start before the tools are there
test test-quick matrix mutants cross mixed: | $(filter deps headers,$(MAKECMDGOALS))

test:
	+@$(RUN)

test-quick:
	+@$(RUN) headers unit

matrix:
	+@$(RUN) matrix

mutants:
	+@$(RUN) mutants

mutants-random:
	@BUILD='$(BUILD)' CC='$(CC)' tests/mutants/random $(or $(FAULTS),100) $(or $(SEED),1)

cross:
	+@$(RUN) cross

# No part of `make test`: minutes each.
coverage lint: | $(filter deps headers,$(MAKECMDGOALS))
	+@BUILD='$(BUILD)' MAKE='$(MAKE)' GCC='$(SAN_CC)' tests/$@/run

mixed:
	+@$(RUN) mixed

cross-all platforms: | $(filter deps-nightly headers,$(MAKECMDGOALS))

cross-all:
	+@$(RUN) cross_all mixed_all

platforms:
	+@$(RUN) matrix cross_all mixed_all
	tests/platforms '$(BUILD)' > $(BUILD)/PLATFORMS.md && cp $(BUILD)/PLATFORMS.md docs/PLATFORMS.md

# One unit for each header, one with all of them, the benchmark, and the trainer's two; and the trainer as a whole. What
# cuBLAS needs where it is not, is left out, and said.
CUDA_UNITS := $(HEADERS:%.h=$(BUILD)/cuda/%.o) $(BUILD)/cuda/all.o
CUDA_BENCH := $(BUILD)/cuda/bench.o
CUDA_HOME = $(call once,CUDA_HOME,$(abspath $(dir $(realpath $(NVCC)))..))
CUDA_LIB = $(CUDA_HOME)/lib64
compiles = $(if $(NVCC),$(if $(filter cuda train-cuda,$(MAKECMDGOALS)),$(shell printf '$(1)int main(void) { return 0; }' | \
           $(CC) -x c - -I$(CUDA_HOME)/include $(2) -o /dev/null 2>/dev/null && echo yes)))
HAS_CUBLAS_H = $(call once,HAS_CUBLAS_H,$(call compiles,\043include <cublas_v2.h>\n))
HAS_CUBLAS = $(call once,HAS_CUBLAS,$(if $(HAS_CUBLAS_H),$(call compiles,,-L$(CUDA_LIB) -Wl$(comma)-rpath$(comma)$(CUDA_LIB) -lcublas)))
comma := ,
CUDA_TRAINER = $(BUILD)/cuda/train-library.o $(if $(HAS_CUBLAS_H),$(BUILD)/cuda/train-gpu.o)
cuda: $(if $(NVCC),$(CUDA_UNITS) $(CUDA_BENCH) $(CUDA_TRAINER) $(if $(HAS_CUBLAS),$(BUILD)/cuda/train))
	@$(if $(NVCC),echo 'cuda: $(words $(CUDA_UNITS) $(CUDA_BENCH) $(CUDA_TRAINER)) units by $(NVCC)$(if \
	    $(HAS_CUBLAS),; build/train linked,; build/train not linked: no cuBLAS)',echo 'cuda: skipped, no nvcc')

# In place of build/train. The rest of its files are the same C, told of the field `cuda`.
train-cuda: $(if $(HAS_CUBLAS),$(BUILD)/cuda/train)
	@$(if $(NVCC),$(if $(HAS_CUBLAS),cp $(BUILD)/cuda/train $(BUILD)/train,\
	    echo 'train-cuda: no cuBLAS (cublas_v2.h, libcublas) in $(CUDA_HOME)'; exit 1),\
	    echo 'train-cuda: no nvcc (NVCC=/path/of/it)'; exit 1)

CUDA_TRAIN_OBJ := $(patsubst %.c,$(BUILD)/cuda/obj/%.o,$(filter-out %/library.c,$(TRAIN_SRC)))
$(CUDA_TRAIN_OBJ): $(BUILD)/cuda/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(EXAMPLE_FLAGS) -DWEFT_CUDA -ffp-contract=off $(ZLIB_FLAGS) $(if $(findstring crew,$<),$(MPI_FLAGS) $(TLS_FLAGS)) \
	    -pthread $(DEP) -c $< -o $@

TRAIN_BY_NVCC = '$(NVCC)' $(NVCC_STRICT) $(NVCC_FLAGS) $(INC) -DWEFT_CUDA -MMD -MP -MF $@.d -x cu -c $< -o $@
$(BUILD)/cuda/train-library.o: examples/train/library.c Makefile
	@mkdir -p $(@D)
	$(TRAIN_BY_NVCC)
$(BUILD)/cuda/train-gpu.o: examples/train/gpu.cu Makefile
	@mkdir -p $(@D)
	$(TRAIN_BY_NVCC)

$(BUILD)/cuda/train: $(CUDA_TRAIN_OBJ) $(BUILD)/cuda/train-library.o $(BUILD)/cuda/train-gpu.o
	$(CXX) $(LDFLAGS) $^ -L$(CUDA_LIB) -Wl,-rpath,$(CUDA_LIB) -lcublas -lcudart_static -ldl -lrt \
	    $(ZLIB_LIBS) $(MPI_LIBS) $(TLS_LIBS) $(LIBS) -o $@

$(CUDA_UNITS): $(BUILD)/cuda/%.o: $(HEADERS) Makefile
	@mkdir -p $(@D)
	@for h in $(if $(filter all,$*),$(HEADERS),$*.h); do \
	    printf '#define WEFT_CUDA\n#define %s_IMPLEMENTATION\n#include "%s"\n' \
	        "$$(echo $${h%.h} | tr a-z A-Z)" $$h; \
	done > $(BUILD)/cuda/$*.cu
	'$(NVCC)' $(NVCC_STRICT) $(NVCC_FLAGS) -I. -c $(BUILD)/cuda/$*.cu -o $@

# For the GPU of this machine; status 77 if there is none.
CUDA_GPU := $(patsubst tests/%.cpp,$(BUILD)/cuda/%,$(filter-out tests/test_cuda_bench.cpp,$(CUDA_SRC)))
cuda-test: $(if $(NVCC),$(CUDA_GPU))
	@$(if $(NVCC),,echo 'cuda-test: no nvcc'; exit 1)
	@for t in $(CUDA_GPU); do $$t || exit; done

$(CUDA_GPU): $(BUILD)/cuda/%: tests/%.cpp $(HEADERS) Makefile
	@mkdir -p $(@D)
	'$(NVCC)' -std=c++17 -O2 $(NVCC_FLAGS) $(INC) -Itests -x cu $< \
	    $(filter-out -pthread,$(CHECK)) -Xcompiler -pthread -o $@

$(CUDA_BENCH): bench/cuda/main.cpp $(HEADERS) Makefile
	@mkdir -p $(@D)
	'$(NVCC)' $(NVCC_STRICT) $(NVCC_FLAGS) -I. -Iexamples -Ibench -MMD -MP -MF $@.d -MT $@ -x cu -c $< -o $@

$(BUILD)/bench-cuda: $(CUDA_BENCH)
	'$(NVCC)' $< -o $@

cuda-bench: $(if $(NVCC),$(BUILD)/bench-cuda)
	@$(if $(NVCC),,echo 'cuda-bench: no nvcc'; exit 1)
	@mkdir -p $(BUILD)/bench
	$(BUILD)/bench-cuda $(if $(BENCH_ARGS),$(BENCH_ARGS),--json $(BUILD)/bench/cuda.jsonl)

deps:
	@tests/deps

deps-nightly:
	@tests/deps nightly

# ---- installing ------------------------------------------------------------------------------------------------------

INCLUDEDIR ?= $(PREFIX)/include
PKGCONFIGDIR ?= $(PREFIX)/lib/pkgconfig

install:
	@mkdir -p '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(PKGCONFIGDIR)'
	cp $(HEADERS) '$(DESTDIR)$(INCLUDEDIR)/'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' weft.pc.in \
	    > '$(DESTDIR)$(PKGCONFIGDIR)/weft.pc'

uninstall:
	cd '$(DESTDIR)$(INCLUDEDIR)' && rm -f $(HEADERS)
	rm -f '$(DESTDIR)$(PKGCONFIGDIR)/weft.pc'

check-docs:
	@tests/docs

# What it refuses, and why, is in the script.
release:
	+@BUILD='$(BUILD)' MAKE='$(MAKE)' TAG='$(or $(TAG),no)' src/release

clean:
	rm -rf $(BUILD)

-include $(wildcard $(foreach d,* */* obj/*/* obj/*/*/* cuda/obj/*/* cuda/obj/*/*/* shim/*/* shim/*/*/*,$(BUILD)/$(d).d))
