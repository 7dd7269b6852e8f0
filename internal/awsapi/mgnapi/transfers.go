package mgnapi

import (
	"context"

	"github.com/understudy-dr/understudy/api/mgn"
	"github.com/understudy-dr/understudy/internal/awsapi/wireform"
	"github.com/understudy-dr/understudy/internal/control/inventory/transfer"
	"github.com/understudy-dr/understudy/internal/state"
)

// StartImport takes an import of the inventory on.
func (a *API) StartImport(ctx context.Context, in *mgn.StartImportInput) (*mgn.StartImportOutput, error) {
	r := transfer.Request{ClientToken: wireform.Value(in.ClientToken), Tags: in.Tags}
	if s := in.S3BucketSource; s != nil {
		r.Bucket, r.Key, r.Owner = s.S3Bucket, s.S3Key, wireform.Value(s.S3BucketOwner)
	}
	x, err := a.d.Transfers.StartImport(ctx, scope(ctx), r)
	if err != nil {
		return nil, err
	}
	return &mgn.StartImportOutput{ImportTask: new(a.importTask(&x))}, nil
}

// ListImports lists imports, the newest first.
func (a *API) ListImports(ctx context.Context, in *mgn.ListImportsInput) (out *mgn.ListImportsOutput, err error) {
	sc, f := scope(ctx), wireform.Value(in.Filters)
	out = &mgn.ListImportsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListImports", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.Transfer, string, error) {
			return a.d.Transfers.List(ctx, sc, state.Import, f.ImportIDs, p)
		}, a.importTask)
	return out, err
}

// ListImportErrors lists what is wrong with an import's file, row by row.
func (a *API) ListImportErrors(ctx context.Context, in *mgn.ListImportErrorsInput) (out *mgn.ListImportErrorsOutput, err error) {
	sc := scope(ctx)
	out = &mgn.ListImportErrorsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListImportErrors", sc, in.ImportID}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.TransferError, string, error) {
			return a.d.Transfers.Errors(ctx, sc, state.Import, in.ImportID, p)
		}, importError)
	return out, err
}

// StartExport takes an export of the inventory on.
func (a *API) StartExport(ctx context.Context, in *mgn.StartExportInput) (*mgn.StartExportOutput, error) {
	x, err := a.d.Transfers.StartExport(ctx, scope(ctx), transfer.Request{Bucket: in.S3Bucket, Key: in.S3Key,
		Owner: wireform.Value(in.S3BucketOwner), Tags: in.Tags})
	if err != nil {
		return nil, err
	}
	return &mgn.StartExportOutput{ExportTask: new(a.exportTask(&x))}, nil
}

// ListExports lists exports, the newest first.
func (a *API) ListExports(ctx context.Context, in *mgn.ListExportsInput) (out *mgn.ListExportsOutput, err error) {
	sc, f := scope(ctx), wireform.Value(in.Filters)
	out = &mgn.ListExportsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListExports", sc, f}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.Transfer, string, error) {
			return a.d.Transfers.List(ctx, sc, state.Export, f.ExportIDs, p)
		}, a.exportTask)
	return out, err
}

// ListExportErrors lists why an export failed.
func (a *API) ListExportErrors(ctx context.Context, in *mgn.ListExportErrorsInput) (out *mgn.ListExportErrorsOutput, err error) {
	sc := scope(ctx)
	out = &mgn.ListExportErrorsOutput{}
	out.Items, out.NextToken, err = paged([]any{"ListExportErrors", sc, in.ExportID}, in.MaxResults, in.NextToken,
		func(p state.Page) ([]state.TransferError, string, error) {
			return a.d.Transfers.Errors(ctx, sc, state.Export, in.ExportID, p)
		}, func(e *state.TransferError) mgn.ExportTaskError {
			return mgn.ExportTaskError{ErrorData: &mgn.ExportErrorData{RawError: wireform.Text(e.RawError)}, ErrorDateTime: wireform.Time(e.At)}
		})
	return out, err
}

func (a *API) importTask(x *state.Transfer) mgn.ImportTask {
	return mgn.ImportTask{
		Arn: a.names(x.Scope).ARN(importTask, x.ID), CreationDateTime: wireform.Time(x.CreatedAt), EndDateTime: wireform.Time(x.EndedAt), ImportID: new(x.ID),
		ProgressPercentage: new(x.Progress), Status: mgn.ImportStatus(x.Status), Tags: x.Tags,
		S3BucketSource: &mgn.S3BucketSource{S3Bucket: x.Bucket, S3Key: x.Key, S3BucketOwner: wireform.Text(x.BucketOwner)},
		Summary: &mgn.ImportTaskSummary{
			Applications: &mgn.ImportTaskSummaryApplications{CreatedCount: new(x.Applications.Created), ModifiedCount: new(x.Applications.Modified)},
			Servers:      &mgn.ImportTaskSummaryServers{CreatedCount: new(x.Servers.Created), ModifiedCount: new(x.Servers.Modified)},
			Waves:        &mgn.ImportTaskSummaryWaves{CreatedCount: new(x.Waves.Created), ModifiedCount: new(x.Waves.Modified)},
		},
	}
}

func (a *API) exportTask(x *state.Transfer) mgn.ExportTask {
	return mgn.ExportTask{
		Arn: a.names(x.Scope).ARN(exportTask, x.ID), CreationDateTime: wireform.Time(x.CreatedAt), EndDateTime: wireform.Time(x.EndedAt), ExportID: new(x.ID),
		ProgressPercentage: new(x.Progress), Status: mgn.ExportStatus(x.Status), Tags: x.Tags,
		S3Bucket: new(x.Bucket), S3Key: new(x.Key), S3BucketOwner: wireform.Text(x.BucketOwner),
		Summary: &mgn.ExportTaskSummary{ApplicationsCount: new(x.Applications.Written), ServersCount: new(x.Servers.Written), WavesCount: new(x.Waves.Written)},
	}
}

func importError(e *state.TransferError) mgn.ImportTaskError {
	kind := mgn.ImportErrorTypeProcessingError
	if e.Validation {
		kind = mgn.ImportErrorTypeValidationError
	}
	data := &mgn.ImportErrorData{AccountID: wireform.Text(e.AccountID), ApplicationID: wireform.Text(e.ApplicationID), RawError: wireform.Text(e.RawError),
		SourceServerID: wireform.Text(e.ServerID), WaveID: wireform.Text(e.WaveID)}
	if e.Row > 0 {
		data.RowNumber = new(e.Row)
	}
	return mgn.ImportTaskError{ErrorData: data, ErrorDateTime: wireform.Time(e.At), ErrorType: kind}
}
