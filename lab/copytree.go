package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// copyTree copies a data directory into dst, which must not exist, with modes
// kept and owned by the account. Files that vanish meanwhile are passed over,
// as a running server removes them. skip is asked with slash paths relative to
// src; a skipped folder is made but left empty.
func copyTree(ctx context.Context, src, dst string, owner account, skip func(path string) bool) error {
	err := filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != src {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		target := filepath.Join(dst, rel)
		skipped := skip != nil && skip(filepath.ToSlash(rel))
		switch {
		case entry.IsDir():
			info, err := entry.Info()
			if err != nil {
				return ignoreVanished(err)
			}
			if err := os.Mkdir(target, info.Mode().Perm()); err != nil {
				return err
			}
			if err := owner.give(target); err != nil {
				return err
			}
			if skipped {
				return fs.SkipDir
			}
			return nil
		case skipped:
			return nil
		case entry.Type().IsRegular():
			return copyFile(path, target, owner, filepath.ToSlash(rel))
		case entry.Type()&fs.ModeSymlink != 0 && filepath.Base(filepath.Dir(path)) == "pg_tblspc":
			return fmt.Errorf("tablespace %s: the nodes of a lab share one machine, so a replica cannot have it: drop the tablespace", rel)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", filepath.Base(src), nameDiskFull(err))
	}
	return nil
}

func ignoreVanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func copyFile(src, dst string, owner account, name string) error {
	in, err := os.Open(src)
	if err != nil {
		return ignoreVanished(err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return createFile(dst, info.Mode().Perm(), owner, func(out *os.File) error { return fill(out, in, name) })
}

// createFile makes a file that must not exist, owned by the account.
func createFile(path string, mode fs.FileMode, owner account, fill func(*os.File) error) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if owner.dropped() {
		err = out.Chown(int(owner.UID), int(owner.GID))
	}
	if err == nil {
		err = fill(out)
	}
	return errors.Join(err, out.Close())
}

// fill copies a file's content. From file to file the kernel does it, and on
// file systems that know how shares the blocks. WAL is mostly zeros, for which
// holes are enough.
func fill(out *os.File, in io.Reader, name string) error {
	if strings.HasPrefix(name, "pg_wal/") {
		return copySparse(out, in)
	}
	_, err := io.Copy(out, in)
	return err
}

func copySparse(out *os.File, in io.Reader) error {
	const chunk = 64 << 10
	buf, zeros := make([]byte, chunk), make([]byte, chunk)
	var size int64
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return out.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}
