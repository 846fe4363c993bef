/* SPDX-License-Identifier: MIT
 * What a machine of tests/cross/run is, for the table of platforms; and what the headers take for granted of any. */
#include <check.h>
#include <float.h>
#include <limits.h>

/* the value that makes the difference is at an address that the compiler does not know */
static const volatile uint32_t one = 1;

static int little_endian(void) {
    unsigned char first;
    memcpy(&first, (const void *)(uintptr_t)&one, 1);
    return first == 1;
}

START_TEST(bytes_are_octets) {
    ck_assert_int_eq(CHAR_BIT, 8);
    ck_assert_uint_eq(sizeof(uint64_t), 8);
}
END_TEST

START_TEST(floats_are_ieee) {
    ck_assert_int_eq(FLT_RADIX, 2);
    ck_assert_int_eq(FLT_MANT_DIG, 24);
    ck_assert_int_eq(FLT_MAX_EXP, 128);
    ck_assert_int_eq(DBL_MANT_DIG, 53);
    ck_assert_int_eq(DBL_MAX_EXP, 1024);
}
END_TEST

START_TEST(integers_shift_and_wrap) {
    const volatile int32_t minus = -5;
    const volatile uint32_t most = UINT32_MAX;
    ck_assert_int_eq(minus >> 1, -3);
    ck_assert_int_eq((int32_t)most, -1);
}
END_TEST

int main(void) {
    Suite *s = suite_create("about");
    TCase *c = tcase_create("about");
    SRunner *r;
    int failed;
    tcase_add_test(c, bytes_are_octets);
    tcase_add_test(c, floats_are_ieee);
    tcase_add_test(c, integers_shift_and_wrap);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    printf("about: %s-endian, %d-bit pointers, char %s\n", little_endian() ? "little" : "big", (int)sizeof(void *) * 8,
           CHAR_MIN < 0 ? "signed" : "unsigned");
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
