# From `nm -n` of the first link to the assembly of the kernel's symbol table.
# Only code is named there; the table lies behind all that has an address, so
# the second link moves nothing.
$2 ~ /^[tTwW]$/ && $3 !~ /^(\.L|kernel_start$|text_end$|trap_stubs$|pvh_entry_gpa$)/ {
    if ($1 ~ /^ffffffff8/ && $1 != last) {
        n++
        address[n] = "0x" substr($1, 9)
        name[n] = $3
        last = $1
    }
}
END {
    print "    .section .ksyms, \"a\""
    print "    .balign 8"
    print "    .globl ksym_count, ksym_addresses, ksym_names, ksym_strings"
    print "ksym_count:\n    .long " n + 0
    print "ksym_addresses:"
    for (i = 1; i <= n; i++)
        print "    .long " address[i] " - 0x80000000"
    print "ksym_names:"
    at = 0
    for (i = 1; i <= n; i++) {
        print "    .long " at
        at += length(name[i]) + 1
    }
    print "ksym_strings:"
    for (i = 1; i <= n; i++)
        print "    .asciz \"" name[i] "\""
    print "    .byte 0"
    print "    .section .note.GNU-stack, \"\", @progbits"
}
