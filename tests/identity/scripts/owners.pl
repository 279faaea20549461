# Owners by Perl: what it makes, and what it sees of others' files.
use strict;

sub show { my @s = lstat $_[0]; sprintf "%d:%d:%o", $s[4], $s[5], $s[2] & 07777 }
sub all_of { my $d = shift; join " ", map { show("$d/$_") } @_ }

mkdir "/w/perl";
chdir "/w/perl" or die;
for my $name ("file", "handle", "big") { open(my $f, ">", $name) or die; }
chown 33, 34, "file";
symlink "file", "link";
# Perl has no lchown outside of POSIX.
use POSIX ();
POSIX::lchown(8, 9, "link");
open(my $handle, "<", "handle") or die;
chown 5, 6, $handle;
chown 70000, 70000, "big";
print "perl.own=", all_of("/w/perl", "file", "link", "handle", "big"), "\n";
print "perl.sees-dash=", all_of("/w/dash", "seen", "link", "seen-hard", "seen-big"), "\n";
print "perl.sees-python=", all_of("/w/python", "file", "link", "handle", "big"), "\n";
