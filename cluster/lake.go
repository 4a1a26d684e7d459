package cluster

import (
	"context"
	"log/slog"

	"lockstep/lake"
)

// OpenLake opens the cluster's tables: Iceberg behind a REST catalog, on S3.
func OpenLake(ctx context.Context, c *Config, log *slog.Logger) (*lake.Lake, error) {
	return lake.OpenREST(ctx, lake.RESTConfig{
		Catalog: c.Catalog, Token: c.CatalogToken, Credential: c.CatalogCredential, Warehouse: c.Warehouse,
		S3Endpoint: c.S3Endpoint, S3AccessKey: c.S3AccessKey, S3SecretKey: c.S3SecretKey, S3Region: c.S3Region,
	}, lake.Options{Logger: log})
}
