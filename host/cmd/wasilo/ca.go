package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link/ca"
)

// gossipKeyFile stands beside an authority's files: the other thing that all nodes of a cluster share.
const gossipKeyFile = "gossip.key"

func (a *app) ca() *cobra.Command {
	return group(&cobra.Command{
		Use: "ca COMMAND", Short: "Make the authority of a cluster",
		Long: `Nodes that listen beyond loopback prove to each other who they are, by certificates of one authority, and encrypt their
gossip with one key. Both are made once for a cluster, on a machine that need not be one of its nodes.`,
		Example: "  wasilo ca init ./ca",
	}, a.caInit())
}

func (a *app) caInit() *cobra.Command {
	cmd := &cobra.Command{
		Use: "init DIR", Short: "Make an authority and a gossip key in a directory", Args: takes(1, 1),
		Long: `Make an authority in DIR: ca.crt, which every node gets, and ca.key, which makes nodes and stays there; and gossip.key, which
every node gets and nobody else may have. Keys are readable by their owner alone. An authority that is there already is left alone,
and is an error; a gossip key that is there already is kept.`,
		Example: `  wasilo ca init ./ca
  wasilo node cert n1 --ca ./ca --cluster prod --out ./n1`,
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		made, err := initAuthority(args[0])
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printJSON(made)
		}
		_, err = fmt.Fprintf(a.stdout, `%s   for every node
%s   stays here, and secret: who has it can make nodes
%s   for every node, and secret

Certify each node, and copy the directory that this makes to the node's machine:

  %s node cert n1 --ca %s --cluster wasilo --out n1
`, oneLine(made.CA), oneLine(made.Key), oneLine(made.GossipKey), selfCommand(), gateway.ShellWord(args[0]))
		return err
	}
	return cmd
}

// authorityFiles are those that initAuthority makes.
type authorityFiles struct {
	CA        string `json:"ca"`
	Key       string `json:"key"`
	GossipKey string `json:"gossip_key"`
}

// initAuthority makes the files in dir. The gossip key comes first, as the one that can be taken back.
func initAuthority(dir string) (authorityFiles, error) {
	made := authorityFiles{filepath.Join(dir, ca.CertificateFile), filepath.Join(dir, ca.KeyFile), filepath.Join(dir, gossipKeyFile)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return made, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	err := writeNew(made.GossipKey, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600)
	kept := errors.Is(err, fs.ErrExist)
	if err != nil && !kept {
		return made, err
	}
	if _, err := ca.Init(dir, ca.Options{}); err != nil {
		if !kept {
			err = errors.Join(err, os.Remove(made.GossipKey))
		}
		if errors.Is(err, ca.ErrExists) {
			err = &usageError{err: err}
		}
		return made, err
	}
	return made, nil
}

// writeNew writes a file that must not be there yet, whole or not at all.
func writeNew(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
