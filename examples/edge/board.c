/* SPDX-License-Identifier: MIT
 * board.c: the two boards: start, serial lines (CMSDK APB UART), clock (SysTick), end (semihosting). */
#include "board.h"
#include <string.h>

#ifdef BOARD_AN547
const char board_name[] = "Cortex-M55";
enum { CLOCK_HZ = 32000000, LINE_INTERRUPT = 35 };
#define UART_BASE 0x59303000u /* the secure alias: the core starts in the secure state */
#else
const char board_name[] = "Cortex-M4F";
enum { CLOCK_HZ = 25000000, LINE_INTERRUPT = 2 };
#define UART_BASE 0x40004000u
#endif

/* ---- Registers ---- */

typedef struct uart_registers {
    volatile uint32_t data, state, control, interrupts, divider;
} uart_registers;
enum { UART_TX_FULL = 1, UART_RX_FULL = 2, UART_TX_ON = 1, UART_RX_ON = 2, UART_RX_INTERRUPT = 8 };
#define UART(n) ((uart_registers *)(uintptr_t)(UART_BASE + 0x1000u * (n)))

typedef struct systick_registers {
    volatile uint32_t control, reload, value;
} systick_registers;
#define SYSTICK ((systick_registers *)(uintptr_t)0xE000E010u)
#define CPACR (*(volatile uint32_t *)(uintptr_t)0xE000ED88u)
#define NVIC_ENABLE ((volatile uint32_t *)(uintptr_t)0xE000E100u)
#define NVIC_DISABLE ((volatile uint32_t *)(uintptr_t)0xE000E180u)

/* ---- Start ---- */

extern uint32_t image_data[], data_begin[], data_end[], bss_begin[], bss_end[], stack_bottom[], stack_top[];
enum { UNTOUCHED = 0x5AFE57AC };

void board_start(void);
static void systick(void);
static void line_byte(void);
static void fault(void) {
    board_exit(3);
}

/* The core reads its stack pointer and its first instruction here. */
typedef struct vector_table {
    void *stack;
    void (*handler[15 + LINE_INTERRUPT + 1])(void);
} vector_table;
__attribute__((section(".vectors"), used)) static const vector_table vectors = {stack_top,
                                                                                {[0] = board_start,
                                                                                 [1] = fault,
                                                                                 [2] = fault,
                                                                                 [3] = fault,
                                                                                 [4] = fault,
                                                                                 [5] = fault,
                                                                                 [10] = fault,
                                                                                 [14] = systick,
                                                                                 [15 + LINE_INTERRUPT] = line_byte}};

static volatile uint32_t milliseconds;
static void systick(void) {
    milliseconds++;
}

void board_start(void) {
    uint32_t *p;
    CPACR |= 0xFu << 20; /* the floating-point unit */
    __asm volatile("dsb\n\tisb" ::: "memory");
    memcpy(data_begin, image_data, (size_t)((char *)data_end - (char *)data_begin));
    memset(bss_begin, 0, (size_t)((char *)bss_end - (char *)bss_begin));
    for (p = stack_bottom; (char *)p < (char *)__builtin_frame_address(0) - 64; p++) *p = UNTOUCHED;
    UART(0)->divider = UART(1)->divider = 16;
    UART(0)->control = UART_TX_ON;
    UART(1)->control = UART_TX_ON | UART_RX_ON | UART_RX_INTERRUPT;
    NVIC_ENABLE[LINE_INTERRUPT / 32] = 1u << LINE_INTERRUPT % 32;
    SYSTICK->reload = CLOCK_HZ / 1000 - 1;
    SYSTICK->value = 0;
    SYSTICK->control = 7;
    board_exit(main());
}

/* newlib's sqrt tells of negative numbers here. */
int *__errno(void);
int *__errno(void) {
    static int number;
    return &number;
}

/* ---- What board.h promises ---- */

static void put(uart_registers *u, unsigned char c) {
    while (u->state & UART_TX_FULL) continue;
    u->data = c;
}

void board_text(char c) {
    put(UART(0), (unsigned char)c);
}

void board_line_put(unsigned char byte) {
    put(UART(1), byte);
}

/* Written by the interrupt, read by the program. */
static volatile unsigned char ring[BOARD_LINE_ROOM];
static volatile uint32_t ring_in, ring_out;

static void line_byte(void) {
    if (ring_in - ring_out == BOARD_LINE_ROOM) { /* until there is room again */
        NVIC_DISABLE[LINE_INTERRUPT / 32] = 1u << LINE_INTERRUPT % 32;
        return;
    }
    UART(1)->interrupts = 2; /* before the byte is taken: the next one may be there at once */
    while (UART(1)->state & UART_RX_FULL && ring_in - ring_out < BOARD_LINE_ROOM) {
        ring[ring_in % BOARD_LINE_ROOM] = (unsigned char)UART(1)->data;
        ring_in++;
    }
}

int board_line_get(void) {
    int byte;
    if (ring_in == ring_out) return -1;
    byte = ring[ring_out % BOARD_LINE_ROOM];
    ring_out++;
    NVIC_ENABLE[LINE_INTERRUPT / 32] = 1u << LINE_INTERRUPT % 32;
    return byte;
}

void board_wait(void) {
    __asm volatile("cpsid i" ::: "memory");
    if (ring_in == ring_out) __asm volatile("wfi" ::: "memory"); /* ends by an interrupt that is held back, too */
    __asm volatile("cpsie i" ::: "memory");
}

uint64_t board_now_ns(void) {
    uint32_t ms, ticks;
    do {
        ms = milliseconds;
        ticks = CLOCK_HZ / 1000 - 1 - SYSTICK->value;
    } while (ms != milliseconds);
    return (uint64_t)ms * 1000000 + (uint64_t)ticks * 1000000 / (CLOCK_HZ / 1000);
}

void board_exit(int status) {
    /* SYS_EXIT_EXTENDED: ADP_Stopped_ApplicationExit and the status */
    uint32_t block[2];
    register uint32_t operation __asm("r0") = 0x20;
    register uint32_t *argument __asm("r1") = block;
    block[0] = 0x20026;
    block[1] = (uint32_t)status;
    __asm volatile("bkpt 0xab" : "+r"(operation) : "r"(argument) : "memory");
    for (;;) continue;
}

size_t board_stack_used(void) {
    const uint32_t *p = stack_bottom;
    while (*p == UNTOUCHED) p++;
    return (size_t)((char *)stack_top - (char *)p);
}
