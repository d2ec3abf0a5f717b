//go:build !linux && !darwin

package keeper

import (
	"context"
	"io/fs"
	"os"

	"github.com/pgtide/pgtide/lab"
)

func ownedByCaller(fs.FileInfo) bool { return true }

func tryLock(string) (*os.File, error) { return nil, lab.ErrUnsupported }

func launch(context.Context, string) error { return lab.ErrUnsupported }
