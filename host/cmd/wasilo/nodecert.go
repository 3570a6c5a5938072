package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/wasilo/wasilo/host/gateway"
	"github.com/wasilo/wasilo/host/link/ca"
)

func (a *app) node() *cobra.Command {
	return group(&cobra.Command{
		Use: "node COMMAND", Short: "Certify the nodes of a cluster",
		Long: `A node proves by its certificate which node of which cluster it is, to every other one that it talks to. The cluster's
authority makes it; see wasilo ca.`,
		Example: "  wasilo node cert n1 --ca ./ca --cluster prod --out ./n1",
	}, a.nodeCert())
}

type certFlags struct {
	ca, cluster, out string
	days             int
}

func (a *app) nodeCert() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cert ID --ca DIR [FLAGS]", Short: "Make a node's certificate, and what it needs beside it", Args: takes(1, 1),
		Long: `Certify the node ID of a cluster by the authority in DIR, and write all that its machine needs: ID.crt and ID.key, ca.crt and
gossip.key. A certificate that is there already is replaced: a node that runs on those files takes the new ones up by
itself, so this is how to renew as well.`,
		Example: `  wasilo node cert n1 --ca ./ca --cluster prod --out ./n1
  wasilo node cert n1 --ca ./ca --cluster prod --out ./n1 --days 30`,
	}
	f := certFlags{cluster: "wasilo", days: int(ca.NodeValidity / (24 * time.Hour))}
	cmd.Flags().StringVar(&f.ca, "ca", "", "`DIR` of the authority, made by wasilo ca init")
	cmd.Flags().StringVar(&f.cluster, "cluster", f.cluster, "`NAME` of the cluster")
	cmd.Flags().StringVar(&f.out, "out", ".", "`DIR` for the files")
	cmd.Flags().Var(countFlag{&f.days, 1, 3650}, "days", "`N` days that it holds"+defaultsTo(f.days))
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := checkName(args[0]); err != nil {
			return usagef("ID: %w", err)
		}
		if err := checkName(f.cluster); err != nil {
			return usagef("--cluster: %w", err)
		}
		if f.ca == "" {
			return usagef("--ca DIR is missing: the authority, which wasilo ca init makes")
		}
		made, err := certify(ca.ID{Cluster: f.cluster, Node: args[0]}, f)
		if err != nil {
			return err
		}
		if a.output == outputJSON {
			return a.printJSON(made)
		}
		_, err = fmt.Fprintf(a.stdout, `%s holds until %s.

Copy %s to the machine of %s, and start it there, HOST being its address and OTHER that of another node:

  %s serve --id %s --cluster %s --link HOST:7701 --gossip HOST:7946 --join OTHER:7946 \
    --ca %s --cert %s --key %s --gossip-key %s
`, oneLine(made.Cert), made.Until.Format(time.DateOnly), oneLine(f.out), args[0], selfCommand(), args[0], f.cluster,
			gateway.ShellWord(made.CA), gateway.ShellWord(made.Cert), gateway.ShellWord(made.Key), gateway.ShellWord(made.GossipKey))
		return err
	}
	return cmd
}

// nodeFiles are all that a node's machine needs.
type nodeFiles struct {
	ID        string    `json:"id"`
	Cluster   string    `json:"cluster"`
	CA        string    `json:"ca"`
	Cert      string    `json:"cert"`
	Key       string    `json:"key"`
	GossipKey string    `json:"gossip_key"`
	Until     time.Time `json:"until"` // then the certificate ends
}

func certify(id ca.ID, f certFlags) (nodeFiles, error) {
	made := nodeFiles{ID: id.Node, Cluster: id.Cluster}
	authority, err := ca.Load(f.ca, ca.Options{})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = usagef("%w; wasilo ca init makes one", err)
		}
		return made, err
	}
	gossipKey, err := os.ReadFile(filepath.Join(f.ca, gossipKeyFile))
	if err != nil {
		return made, fmt.Errorf("the cluster's gossip key: %w", err)
	}
	if err := os.MkdirAll(f.out, 0o700); err != nil {
		return made, err
	}
	if sameFile(f.out, f.ca) {
		return made, usagef("%s is the authority's own directory, with the key that certifies nodes: give another one with --out, to be copied to the node", f.out)
	}
	made.CA, made.GossipKey = filepath.Join(f.out, ca.CertificateFile), filepath.Join(f.out, gossipKeyFile)
	// What the cluster shares comes first: where it is another cluster's, the node's own is not touched.
	if err := share(made.CA, authority.Certificate(), 0o644); err != nil {
		return made, err
	}
	// The key of a node that is certified already is not this authority's to say: a new authority comes with another one.
	if _, err := os.Lstat(filepath.Join(f.out, id.Node+".crt")); err != nil {
		if err := share(made.GossipKey, gossipKey, 0o600); err != nil {
			return made, err
		}
	}
	made.Cert, made.Key, err = authority.WriteNode(f.out, id, time.Duration(f.days)*24*time.Hour)
	if err != nil {
		return made, err
	}
	made.Until, err = endOf(made.Cert)
	return made, err
}

// share writes a file that may be there already if it has the same in it: while an authority or a key is replaced, a node's file
// has both, and which comes first is for whoever replaces it to say.
func share(name string, data []byte, mode fs.FileMode) error {
	err := writeNew(name, data, mode)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if there, err := os.ReadFile(name); err != nil || bytes.Contains(there, bytes.TrimSpace(data)) {
		return err
	}
	return usagef("%s is there already, and differs from the authority's: take another directory with --out, or remove it", name)
}

// endOf returns when a certificate ends: an authority near its own end makes shorter ones than it is asked for.
func endOf(certFile string) (time.Time, error) {
	text, err := os.ReadFile(certFile)
	if err != nil {
		return time.Time{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}, fmt.Errorf("%s is not in PEM", certFile)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return cert.NotAfter, nil
}
