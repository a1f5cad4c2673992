# Installing: the program, the tiny guest, the manual page, the completion.

BINDIR  = $(DESTDIR)$(PREFIX)/bin
DATADIR = $(DESTDIR)$(PREFIX)/lib/twofold
MANDIR  = $(DESTDIR)$(PREFIX)/share/man/man1
COMPDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions

.PHONY: install
install: all ## install below $(DESTDIR)$(PREFIX)
	install -D -m 755 $(BUILD)/twofold $(BINDIR)/twofold
	install -D -m 644 $(BUILD)/guest.elf $(DATADIR)/guest.elf
	install -D -m 644 docs/twofold.1 $(MANDIR)/twofold.1
	install -D -m 644 tools/completion/twofold.bash $(COMPDIR)/twofold
